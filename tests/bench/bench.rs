//! What every row needs: sizes, tools, files and a scratch folder.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::{Files, Source};
use super::options::Options;
use super::scratch::Scratch;
use super::sizes::Sizes;
use super::tools::Tools;
use super::trouble::{Doing, Trouble};

pub struct Bench {
    pub pairs: usize,
    pub sizes: Sizes,
    pub tools: Tools,
    pub scratch: Scratch,
    pub files: Files,
    /// Descriptors that this process and each that it starts may have.
    pub descriptors: usize,
}

impl Bench {
    pub fn new(options: &Options) -> Result<Bench, Trouble> {
        let descriptors = raise_descriptor_limit()?;
        let scratch = Scratch::beneath(&options.dir)?;
        let files = Files::new(&scratch);
        let sizes = Sizes::of(options.quick);
        Ok(Bench { pairs: options.pairs, sizes, tools: Tools::look(), scratch, files, descriptors })
    }

    pub fn large(&self) -> Result<Source, Trouble> {
        Ok(self.files.random(["large.bin".to_owned()], self.sizes.large)?.remove(0))
    }

    /// Fails unless each side may have so many connections at a time.
    pub fn can_connect(&self, count: usize) -> Result<(), Trouble> {
        let wanted = count + DESCRIPTORS_BESIDE;
        let enough = self.descriptors >= wanted;
        if enough { Ok(()) } else { Err(Trouble::Missing(format!("{wanted} descriptors (ulimit -n)"))) }
    }
}

/// Descriptors that each side needs beside those of the connections.
const DESCRIPTORS_BESIDE: usize = 300;

/// As many descriptors as the hard limit allows, here and in every child; says how many.
fn raise_descriptor_limit() -> Result<usize, Trouble> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit { current: hard, maximum: hard };
    setrlimit(Resource::Nofile, raised).doing("cannot raise the limit of descriptors")?;
    Ok(hard.map_or(usize::MAX, |hard| usize::try_from(hard).unwrap_or(usize::MAX)))
}
