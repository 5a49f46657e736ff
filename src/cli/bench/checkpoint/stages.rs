//! Where the time of a global checkpoint goes, stage by stage, along the way of the answers that decided it.

use serde::Serialize;

use crate::cli::bench::mark::Mark;

/// One global checkpoint. Times in µs; together they are its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// From proposal until the deciding region's relay has heard it.
    pub out_us: u64,
    /// Until the voter whose answer the relay waited for has heard it.
    pub in_region_out_us: u64,
    /// Until that voter has it on its disk.
    pub write_us: u64,
    /// Until the relay sends the region's answers back.
    pub in_region_back_us: u64,
    /// Until the leader has them, and counts a quorum.
    pub back_us: u64,
}

impl Stages {
    /// From proposal to commit.
    pub fn total_us(self) -> u64 {
        self.across_us() + self.in_region_us()
    }

    /// One round trip between regions.
    pub fn across_us(self) -> u64 {
        self.out_us + self.back_us
    }

    /// One round trip within the region, with its write.
    pub fn in_region_us(self) -> u64 {
        self.in_region_out_us + self.write_us + self.in_region_back_us
    }
}

/// What became of the proposals that were watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Decided by another region's answers.
    pub abroad: Vec<Stages>,
    /// From proposal to commit in µs where the leader's own region, or its own disk, was the last to answer.
    pub at_home_us: Vec<u64>,
}

/// A commit this soon after a region's answers is due to them: what it takes to handle one frame.
const HANDLING_US: u64 = 1000;

/// Goes over notes in order of time: when, at which place, what. `region_of` names a place's region.
pub fn watch(notes: &[(u64, usize, Mark)], region_of: impl Fn(usize) -> String) -> Watched {
    let mut watched = Watched::default();
    let proposals = notes.iter().enumerate().filter_map(|(i, (at, place, mark))| match mark {
        Mark::Proposed { index } => Some((i, *at, *place, *index)),
        _ => None,
    });
    for (first, begun, leader, wanted) in proposals {
        let counted = notes[first..].iter().position(|(_, place, mark)| {
            *place == leader && matches!(mark, Mark::Counted { index } if *index == wanted)
        });
        let Some(counted) = counted.map(|offset| first + offset) else { continue };
        let (over, within) = (notes[counted].0, &notes[first..=counted]);
        let decided = within.iter().rev().find_map(|(at, place, mark)| match mark {
            Mark::Returned { index, region } if *index == wanted && *place == leader => Some((*at, region)),
            _ => None,
        });
        match decided.filter(|(at, _)| over - at <= HANDLING_US) {
            Some((_, region)) => watched.abroad.extend(way(within, wanted, region, begun, over, &region_of)),
            None => watched.at_home_us.push(over - begun),
        }
    }
    watched
}

/// The way through one region.
fn way(
    notes: &[(u64, usize, Mark)],
    wanted: u64,
    region: &str,
    begun: u64,
    over: u64,
    region_of: &impl Fn(usize) -> String,
) -> Option<Stages> {
    let passed = notes.iter().rposition(|(_, _, mark)| match mark {
        Mark::PassedOn { index, region: of } => *index == wanted && of == region,
        _ => false,
    })?;
    let (passed_at, relay, _) = notes[passed];
    let before = &notes[..passed];
    let heard = |by: usize| {
        let this = |mark: &Mark| matches!(mark, Mark::Heard { index } if *index == wanted);
        before.iter().find(|(_, place, mark)| *place == by && this(mark)).map(|(at, _, _)| *at)
    };
    let (wrote_at, voter) = before.iter().rev().find_map(|(at, place, mark)| match mark {
        Mark::Wrote { index } if *index == wanted && region_of(*place) == region => Some((*at, *place)),
        _ => None,
    })?;
    let (relay_heard, voter_heard) = (heard(relay)?, heard(voter)?);
    Some(Stages {
        out_us: relay_heard.saturating_sub(begun),
        in_region_out_us: voter_heard.saturating_sub(relay_heard),
        write_us: wrote_at.saturating_sub(voter_heard),
        in_region_back_us: passed_at.saturating_sub(wrote_at),
        back_us: over.saturating_sub(passed_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region_of(place: usize) -> String {
        format!("r{}", place % 3)
    }

    #[test]
    fn stages_follow_the_answers_that_decided_and_add_up() {
        let (index, region) = (7, || "r1".to_owned());
        let notes = vec![
            (1000, 0, Mark::Proposed { index }),
            (31_000, 1, Mark::Heard { index }),
            (32_000, 4, Mark::Heard { index }),
            (32_500, 7, Mark::Heard { index }),
            (34_000, 4, Mark::Wrote { index }),
            (35_500, 7, Mark::Wrote { index }),
            (36_500, 1, Mark::PassedOn { index, region: region() }),
            (66_000, 0, Mark::Returned { index, region: region() }),
            (66_100, 0, Mark::Counted { index }),
            (90_000, 0, Mark::Proposed { index: 8 }),
            (99_000, 0, Mark::Counted { index: 8 }),
            (100_000, 0, Mark::Proposed { index: 9 }),
        ];
        let watched = watch(&notes, region_of);
        assert_eq!(watched.at_home_us, [9_000], "nobody abroad was needed");
        let stages = watched.abroad[0];
        assert_eq!((stages.total_us(), stages.across_us(), stages.in_region_us()), (65_100, 59_600, 5_500));
        assert_eq!((stages.write_us, stages.in_region_out_us, stages.in_region_back_us), (3_000, 1_500, 1_000));
    }
}
