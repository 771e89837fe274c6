//! The text of `--help`: the options as argh's declaration has them, in groups, at 80 columns.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind};

/// One column less than a terminal of 80 has: some wrap after the last one.
const WIDTH: usize = 79;

/// The column at which descriptions begin.
const DESCRIPTION: usize = 28;

/// What the help of one command has besides its options.
pub struct Page {
    pub command: &'static str,
    /// Usage, one sentence, and examples.
    pub head: &'static str,
    /// Each option is in one group, by its long name; a name without hyphens is that of a positional argument.
    pub groups: &'static [(&'static str, &'static [&'static str])],
    pub foot: &'static str,
}

impl Page {
    /// The whole text.
    pub fn text(&self, info: &CommandInfoWithArgs) -> String {
        let mut out = self.head.to_string();
        for (title, names) in self.groups {
            out.push_str(&format!("\n{title}:\n"));
            names.iter().for_each(|name| push_entry(&mut out, &entry(info, name)));
        }
        out.push('\n');
        out.push_str(self.foot);
        out
    }
}

/// What a line shows of an option or argument, and its description.
fn entry(info: &CommandInfoWithArgs, name: &str) -> (String, String) {
    let of_flag = |flag: &FlagInfo<'_>| (shown(flag), flag.description.to_string());
    let positional = || {
        let found = info.positionals.iter().find(|positional| positional.name == name)?;
        Some((found.name.to_string(), found.description.to_string()))
    };
    match name {
        "--help" => (String::from("-h, --help"), String::from("print this help")),
        "--version" => (String::from("-V, --version"), String::from("print the version")),
        _ => info.flags.iter().find(|flag| flag.long == name).map(of_flag).or_else(positional).unwrap_or_default(),
    }
}

/// `-p, --port PORT`.
fn shown(flag: &FlagInfo<'_>) -> String {
    let short = flag.short.map_or(String::from("    "), |short| format!("-{short}, "));
    match flag.kind {
        FlagInfoKind::Switch => format!("{short}{}", flag.long),
        FlagInfoKind::Option { arg_name } => format!("{short}{} {arg_name}", flag.long),
    }
}

/// One entry, its description in a column of its own.
fn push_entry(out: &mut String, (name, description): &(String, String)) {
    let mut line = format!("  {name}");
    if line.len() + 2 > DESCRIPTION {
        out.push_str(&line);
        out.push('\n');
        line.clear();
    }
    for word in description.split(' ') {
        if line.len() > DESCRIPTION && line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line.clear();
        }
        match line.len() > DESCRIPTION {
            true => line.push(' '),
            false => line.push_str(&" ".repeat(DESCRIPTION - line.len())),
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
