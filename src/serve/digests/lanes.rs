//! Whose digest job is hashed next: addresses take turns, and each of them has the job with the least left hashed first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::serve::peers::Source;

/// Jobs under way at a time: those that are looked at for something to hash. What one of them waits for was asked of the
/// disk, 1 MiB, so this bounds what is on its way. The addresses have equal parts of it, and each at least one job.
const UNDER_WAY_MAX: usize = 64;

/// Jobs of an address under way at a time that were asked for with "hash again". A client asks so after a digest that was
/// wrong, for one file: these are four clients behind one address. The others queue within the address.
const AGAIN_MAX: usize = 4;

/// The number of a job; a later one has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Where a job stands in the queue of one address: the lowest is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Whether its disk has brought nothing for long: then it stands behind all that can be hashed.
    pub is_asleep: bool,
    /// Bytes hashed for the address by the end of this job if it alone is hashed from now on.
    ///
    /// That orders jobs by what is left of them, but lets bytes hashed since for others of the same address count as if
    /// they were its own: an endless row of small files holds a large one up for no longer than that one takes.
    rank: u64,
    job: JobId,
}

/// The jobs that an address waits for.
#[derive(Default)]
struct Lane {
    /// The key of its entry in the round.
    turn: u64,
    /// Bytes hashed in its turns.
    hashed: u64,
    usual: BTreeSet<Position>,
    /// Those that were asked for with "hash again".
    again: BTreeSet<Position>,
}

/// All addresses that wait for a job. Between two chunks of one address there is at most one chunk of each other.
#[derive(Default)]
pub struct Lanes {
    lanes: HashMap<Source, Lane>,
    /// The addresses by their turns, the next one first; each once.
    round: BTreeMap<u64, Source>,
    /// Turns given so far.
    turns: u64,
}

impl Lanes {
    /// Puts a job, of which so many bytes are left, into the queue of an address.
    pub fn add(&mut self, source: Source, job: JobId, left: u64, is_again: bool) -> Position {
        let lane = self.lanes.entry(source).or_insert_with(|| {
            self.turns += 1;
            self.round.insert(self.turns, source);
            Lane { turn: self.turns, ..Lane::default() }
        });
        let position = Position { is_asleep: false, rank: lane.hashed.saturating_add(left), job };
        lane.queue(is_again).insert(position);
        position
    }

    /// Takes a job out of the queue of an address, which is forgotten if that was its last one.
    pub fn remove(&mut self, source: Source, position: Position, is_again: bool) {
        let Some(lane) = self.lanes.get_mut(&source) else { return };
        lane.queue(is_again).remove(&position);
        if lane.usual.is_empty() && lane.again.is_empty() {
            self.round.remove(&lane.turn);
            self.lanes.remove(&source);
        }
    }

    /// Moves a job behind all others of an address, or back.
    pub fn set_asleep(&mut self, source: Source, position: &mut Position, is_again: bool, is_asleep: bool) {
        if let Some(lane) = self.lanes.get_mut(&source) {
            lane.queue(is_again).remove(position);
            position.is_asleep = is_asleep;
            lane.queue(is_again).insert(*position);
        }
    }

    /// The job that is hashed next, and the address whose turn it is. `is_ready` says whether a job can be hashed now.
    pub fn next(&self, mut is_ready: impl FnMut(JobId) -> bool) -> Option<(Source, JobId)> {
        let most = (UNDER_WAY_MAX / self.lanes.len().max(1)).max(1);
        self.round.values().find_map(|source| {
            let lane = self.lanes.get(source)?;
            let [usual, again] = [(&lane.usual, most), (&lane.again, most.min(AGAIN_MAX))]
                .map(|(queue, most)| queue.iter().take(most).find(|position| is_ready(position.job)));
            let position = usual.into_iter().chain(again).min()?;
            Some((*source, position.job))
        })
    }

    /// An address has had its turn, in which so many bytes were hashed.
    pub fn end_turn(&mut self, source: Source, hashed: u64) {
        let Some(lane) = self.lanes.get_mut(&source) else { return };
        self.round.remove(&lane.turn);
        self.turns += 1;
        self.round.insert(self.turns, source);
        lane.turn = self.turns;
        lane.hashed = lane.hashed.saturating_add(hashed);
    }

    /// How many jobs there are in all queues.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.lanes.len(), self.round.len());
        let len = |lane: &Lane| lane.usual.len() + lane.again.len();
        assert!(self.lanes.values().all(|lane| len(lane) > 0 && self.round.contains_key(&lane.turn)));
        self.lanes.values().map(len).sum()
    }
}

impl Lane {
    fn queue(&mut self, is_again: bool) -> &mut BTreeSet<Position> {
        if is_again { &mut self.again } else { &mut self.usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn source(n: u8) -> Source {
        Source::V4([192, 0, 2, n].into())
    }

    /// The jobs of so many turns, in which a MiB each is hashed of those that are ready.
    fn turns(lanes: &mut Lanes, count: usize, is_ready: impl Fn(u64) -> bool) -> Vec<u64> {
        let turn = |lanes: &mut Lanes| {
            let (source, job) = lanes.next(|job| is_ready(job.0))?;
            lanes.end_turn(source, MIB);
            Some(job.0)
        };
        (0..count).map_while(|_| turn(lanes)).collect()
    }

    #[test]
    fn addresses_take_turns_however_many_jobs_each_has() {
        let mut lanes = Lanes::default();
        for job in 0..500 {
            lanes.add(source(1), JobId(job), MIB, false);
        }
        lanes.add(source(2), JobId(900), 400 * MIB, false);
        lanes.add(source(3), JobId(901), 400 * MIB, true);
        assert_eq!(turns(&mut lanes, 7, |_| true), [0, 900, 901, 0, 900, 901, 0]);
        // One that comes is next after all that were there.
        lanes.add(source(4), JobId(902), MIB, false);
        assert_eq!(turns(&mut lanes, 5, |_| true), [900, 901, 0, 902, 900]);
    }

    #[test]
    fn within_an_address_the_least_left_is_first_and_none_waits_for_ever() {
        let mut lanes = Lanes::default();
        let one = source(1);
        lanes.add(one, JobId(0), 50 * MIB, false);
        let small = lanes.add(one, JobId(1), 5 * MIB, false);
        assert_eq!(turns(&mut lanes, 5, |_| true), [1; 5]);
        lanes.remove(one, small, false);
        // New ones of 5 MiB all the time: after 50 MiB in all it is the large one's turn.
        let mut rounds = 0;
        for job in 2.. {
            let position = lanes.add(one, JobId(job), 5 * MIB, false);
            if turns(&mut lanes, 5, |_| true)[0] == 0 {
                break;
            }
            lanes.remove(one, position, false);
            rounds += 1;
        }
        assert_eq!(rounds, 8);
    }

    /// Jobs that wait for the disk are passed over, but there are only so many at a time.
    #[test]
    fn the_places_are_shared_out_among_the_addresses() {
        let mut lanes = Lanes::default();
        let mut positions: Vec<Position> = (0..100).map(|job| lanes.add(source(1), JobId(job), MIB, false)).collect();
        assert_eq!(turns(&mut lanes, 1, |job| job >= 63), [63]);
        assert!(turns(&mut lanes, 1, |job| job >= 64).is_empty(), "64 are under way");
        // Another address has its job under way all the same, and half of the places.
        lanes.add(source(2), JobId(100), MIB, false);
        assert_eq!(turns(&mut lanes, 1, |job| job >= 64), [100]);
        assert_eq!(turns(&mut lanes, 2, |job| job >= 31), [31, 100]);
        assert_eq!(turns(&mut lanes, 2, |job| job >= 32), [100, 100]);
        // With many addresses each has one.
        for n in 3..=100 {
            lanes.add(source(n), JobId(100 + u64::from(n)), MIB, false);
        }
        assert_eq!(turns(&mut lanes, 200, |job| (1..100).contains(&job)), [0; 0]);
        // One whose disk sleeps lets others have its place.
        lanes.set_asleep(source(1), &mut positions[0], false, true);
        assert_eq!(turns(&mut lanes, 1, |job| (1..100).contains(&job)), [1]);
        lanes.set_asleep(source(1), &mut positions[0], false, false);
        assert_eq!(turns(&mut lanes, 1, |job| (0..100).contains(&job)), [0]);
    }

    #[test]
    fn hash_again_is_bounded_for_each_address() {
        let mut lanes = Lanes::default();
        let positions: Vec<Position> = (0..10).map(|job| lanes.add(source(1), JobId(job), MIB, true)).collect();
        assert!(turns(&mut lanes, 1, |job| job >= 4).is_empty(), "four are under way");
        lanes.add(source(1), JobId(10), 100 * MIB, false);
        lanes.add(source(2), JobId(20), MIB, true);
        assert_eq!(turns(&mut lanes, 3, |job| job >= 4), [10, 20, 10], "the bound is on that alone, and on each");
        lanes.remove(source(1), positions[2], true);
        assert_eq!(turns(&mut lanes, 2, |job| job >= 4), [20, 4], "one has ended");
    }

    #[test]
    fn an_address_without_jobs_is_forgotten() {
        let mut lanes = Lanes::default();
        let positions = [1, 2].map(|job| lanes.add(source(1), JobId(job), MIB, job == 2));
        turns(&mut lanes, 3, |_| true);
        lanes.remove(source(1), positions[0], false);
        assert_eq!(lanes.len(), 1);
        lanes.remove(source(1), positions[1], true);
        assert!(lanes.len() == 0 && lanes.next(|_| true).is_none());
    }
}
