//! Finished digests: a bounded number, of which the oldest goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::file::Stamp;
use crate::proto::digest::{Algorithm, Digest};

/// Finished digests kept, at some 200 bytes each.
const CACHE_MAX: usize = 16_384;

/// What has a digest: a content of a file, and the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The content.
    pub stamp: Stamp,
    /// How it is digested.
    pub algorithm: Algorithm,
}

/// The finished digests.
#[derive(Default)]
pub struct Cache {
    digests: HashMap<Subject, Made>,
    /// The same in the order in which they were made.
    order: BTreeMap<u64, Subject>,
    /// How many were made so far.
    made: u64,
}

struct Made {
    digest: Digest,
    at: Instant,
    /// The key of its entry in the order.
    number: u64,
}

impl Cache {
    /// A digest that was made at most so long ago.
    pub fn get(&self, subject: &Subject, max_age: Option<Duration>, now: Instant) -> Option<Digest> {
        let made = self.digests.get(subject)?;
        max_age.is_none_or(|max_age| now.duration_since(made.at) <= max_age).then_some(made.digest)
    }

    /// Keeps a digest that was made now, in place of an older one of the same.
    pub fn keep(&mut self, subject: Subject, digest: Digest, now: Instant) {
        self.made += 1;
        let number = self.made;
        if let Some(older) = self.digests.insert(subject, Made { digest, at: now, number }) {
            self.order.remove(&older.number);
        }
        self.order.insert(number, subject);
        if self.order.len() > CACHE_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.digests.remove(&oldest);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.digests.len(), self.order.len());
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Mtime;
    use crate::proto::digest::Hasher;

    fn subject(inode: u64) -> Subject {
        let time = Mtime { seconds: 1, nanos: 0 };
        let stamp = Stamp { device: 1, inode, size: 5, mtime: time, ctime: time };
        Subject { stamp, algorithm: Algorithm::Md5 }
    }

    #[test]
    fn what_is_kept_grows_old() {
        let (mut cache, now, age) = (Cache::default(), Instant::now(), Duration::from_secs(600));
        let digest = Hasher::new(Algorithm::Md5).finish();
        cache.keep(subject(1), digest, now);
        let later = now + age + Duration::from_millis(1);
        assert_eq!(cache.get(&subject(1), Some(age), now + age), Some(digest));
        assert_eq!(cache.get(&subject(1), Some(age), later), None);
        assert_eq!(cache.get(&subject(1), None, later), Some(digest), "without a limit of age");
        let other = Subject { algorithm: Algorithm::Blake3, ..subject(1) };
        assert_eq!(cache.get(&other, None, now), None, "another algorithm");
    }

    /// One that was made again is as new as its last making.
    #[test]
    fn the_oldest_goes_first() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let digest = Hasher::new(Algorithm::Md5).finish();
        let keep = |cache: &mut Cache, inode| cache.keep(subject(inode), digest, now);
        (0..CACHE_MAX as u64).for_each(|inode| keep(&mut cache, inode));
        keep(&mut cache, 0);
        keep(&mut cache, CACHE_MAX as u64);
        assert_eq!(cache.len(), CACHE_MAX);
        let kept = |inode| cache.get(&subject(inode), None, now).is_some();
        assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    }
}
