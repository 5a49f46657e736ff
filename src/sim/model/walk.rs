//! The search: depth first over all states within the bounds, each seen once, judged at every step.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::core::hard_state::{HardState, Position};
use crate::core::hierarchy::is_own;
use crate::core::id::{Hash, Index, Term, Voter};
use crate::core::message::Message;
use crate::core::message::agreement::{CheckpointAck, ElectionVote};
use crate::sim::model::cast::{Cast, Load, Prints};
use crate::sim::model::member::{Claim, Deed, Member};
use crate::sim::model::seen::Seen;
use crate::sim::model::{Bounds, Report};
use crate::sim::oracles::is_quorum;

/// States between two looks of whoever waits.
const TOLD_EVERY: u64 = 1 << 16;
/// What nodes do is remembered up to so many times, then anew.
const REMEMBERED: usize = 12_000_000;

/// Everything at one moment. Members, parcels and histories by their numbers.
#[derive(Clone)]
struct State {
    members: Box<[u32]>,
    /// All that was sent, ascending.
    sent: Vec<u32>,
    history: u32,
    spent: Spent,
}

/// How much of the bounds is used up.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Spent {
    crashes: u8,
    late_writes: u8,
    additions: u8,
    removals: u8,
    region_leaders: u8,
}

/// What must stay true of the past.
#[derive(Clone, Default)]
struct History {
    committed: Vec<(Index, Hash)>,
    leaders: Vec<(Term, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Hear(u32),
    TimeOut,
    Propose,
    Remove(u8),
    Add,
    Sync,
    Crash,
    /// It comes to lead its region.
    LeadRegion,
    /// It leads its region no more.
    LoseRegion,
}

/// What a step makes of a node. A step that writes has two outcomes: the disk answers at once, or not.
struct Outcome {
    member: u32,
    sent: Box<[u32]>,
    claims: Box<[Claim]>,
    late: bool,
}

/// The way to a state.
struct Link {
    place: u8,
    step: Step,
    late: bool,
    before: Option<Rc<Self>>,
}

/// Walks everything within the bounds; `tell` is called now and then.
pub fn walk(bounds: &Bounds, tell: &mut dyn FnMut(&Report)) -> Report {
    let mut walk = Walk::new(bounds);
    let first = walk.first();
    walk.run(first, tell);
    walk.report.members = walk.members.len() as u64;
    walk.report.messages = walk.cast.parcels.len() as u64;
    walk.report
}

struct Walk<'a> {
    bounds: &'a Bounds,
    cast: Cast,
    members: Vec<(Member, Prints)>,
    member_numbers: BTreeMap<u128, u32>,
    histories: Vec<(History, Prints)>,
    history_numbers: BTreeMap<u128, u32>,
    /// What each member does, by step.
    outcomes: Vec<BTreeMap<u32, Rc<[Outcome]>>>,
    remembered: usize,
    seen: Seen,
    report: Report,
}

type Broken = String;

impl<'a> Walk<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        Self {
            bounds,
            cast: Cast::new(bounds.regions, bounds.voters, usize::from(bounds.additions > 0)),
            members: Vec::new(),
            member_numbers: BTreeMap::new(),
            histories: Vec::new(),
            history_numbers: BTreeMap::new(),
            outcomes: Vec::new(),
            remembered: 0,
            seen: Seen::new(),
            report: Report { complete: true, ..Report::default() },
        }
    }

    fn first(&mut self) -> State {
        let genesis = self.cast.genesis();
        let durable = HardState::new(genesis.hash());
        let places = 0..self.cast.voters.len() as u8;
        let members = places.map(|place| {
            let mut member = Member::recover(&self.cast, place, durable.clone());
            if self.cast.is_top() && self.cast.leads_at_first(place) {
                member = member.lead_region(&mut self.cast, true).member;
            }
            self.number_member(member)
        });
        let members = members.collect();
        let history = self.number_history(History::default());
        State { members, sent: Vec::new(), history, spent: Spent::default() }
    }

    fn run(&mut self, first: State, tell: &mut dyn FnMut(&Report)) {
        let mut told = 0;
        let mut stack: Vec<(State, Option<Rc<Link>>, u32)> = vec![(first, None, 0)];
        while let Some((state, path, depth)) = stack.pop() {
            if self.report.states >= self.bounds.states {
                self.report.complete = false;
                return;
            }
            if depth >= self.bounds.depth {
                self.report.complete = false;
                continue;
            }
            for place in 0..state.members.len() as u8 {
                for step in self.steps(&state, place) {
                    if let Err((broken, late)) = self.follow(&state, place, step, |next, late| {
                        let link = Link { place, step, late, before: path.clone() };
                        stack.push((next, Some(Rc::new(link)), depth + 1));
                    }) {
                        let last = Link { place, step, late, before: path.clone() };
                        self.report.violation = Some((broken, self.told(Some(&Rc::new(last)))));
                        return;
                    }
                }
            }
            self.report.depth = self.report.depth.max(depth);
            if self.report.states >= told {
                told = self.report.states + TOLD_EVERY;
                tell(&self.report);
            }
        }
    }

    /// What this node may do now. What comes last is walked first: to hear what was said leads furthest in few steps,
    /// and a walk that ends early has seen elections and commits.
    fn steps(&self, state: &State, place: u8) -> Vec<Step> {
        let member = self.member(state, place);
        let mut steps = Vec::new();
        let (hard, leads, spent) = (member.group().hard(), member.group().is_leader(), state.spent);
        if hard.term.get() < self.bounds.terms && member.group().is_voter() && member.leads {
            steps.push(Step::TimeOut);
        }
        if leads && member.group().is_settled() && hard.accepted.index.get() < self.bounds.checkpoints {
            steps.push(Step::Propose);
            let voters = member.group().voters();
            if spent.removals < self.bounds.removals && voters.len() > 2 {
                let all = (0..self.cast.voters.len() as u8).filter(|v| voters.contains(&self.cast.voters[*v as usize]));
                steps.extend(all.map(Step::Remove));
            }
            let newcomer = self.cast.voters.last().expect("somebody votes");
            if spent.additions < self.bounds.additions && !voters.contains(newcomer) {
                steps.push(Step::Add);
            }
        }
        if !member.unsynced.is_empty() {
            steps.push(Step::Sync);
        }
        if spent.crashes < self.bounds.crashes {
            steps.push(Step::Crash);
        }
        if self.cast.is_top() {
            // Whoever is deposed may not know it for any time: two may take themselves for a region's leader.
            let mut others = self.cast.neighbours(place).filter(|other| *other != place);
            match member.leads {
                false if spent.region_leaders < self.bounds.region_leaders => steps.push(Step::LeadRegion),
                true if others.any(|other| self.member(state, other).leads) => steps.push(Step::LoseRegion),
                _ => {}
            }
        }
        let heard = state.sent.iter().filter(|sent| self.cast.parcels[**sent as usize].to == place);
        steps.extend(heard.map(|sent| Step::Hear(*sent)));
        steps
    }

    /// Takes a step, judges it, and gives every state not seen before to `found`.
    fn follow(
        &mut self,
        state: &State,
        place: u8,
        step: Step,
        mut found: impl FnMut(State, bool),
    ) -> Result<(), (Broken, bool)> {
        let number = state.members[place as usize];
        let mut spent = state.spent;
        match step {
            Step::Remove(_) => spent.removals += 1,
            Step::Crash => spent.crashes += 1,
            Step::LeadRegion => spent.region_leaders += 1,
            _ => {}
        }
        let outcomes = match step {
            Step::Add => {
                let (deed, proposed) = self.add(state, place);
                spent.additions += u8::from(proposed);
                self.outcomes(number, deed).into()
            }
            step => self.remembered(number, step),
        };
        for outcome in outcomes.iter() {
            self.report.steps += 1;
            let begins = outcome.late && self.members[number as usize].0.unsynced.is_empty();
            let spent = Spent { late_writes: spent.late_writes + u8::from(begins), ..spent };
            if spent.late_writes > self.bounds.late_writes {
                continue;
            }
            let news = outcome.sent.iter().filter(|sent| state.sent.binary_search(sent).is_err());
            let news: Vec<u32> = news.copied().collect();
            let silent = news.is_empty() && outcome.claims.is_empty();
            if silent && outcome.member == number && spent == state.spent {
                continue;
            }
            let mut next = State { spent, ..state.clone() };
            next.members[place as usize] = outcome.member;
            for sent in news {
                self.judge_sent(&next, place, sent).map_err(|broken| (broken, outcome.late))?;
                if let Err(at) = next.sent.binary_search(&sent) {
                    next.sent.insert(at, sent);
                }
            }
            self.forget(&mut next);
            for claim in &outcome.claims {
                self.judge_claim(&mut next, place, claim).map_err(|broken| (broken, outcome.late))?;
            }
            if self.seen.insert(self.print(&next)) {
                self.report.states += 1;
                self.note(step, &outcome.claims, spent.additions > state.spent.additions);
                found(next, outcome.late);
            }
        }
        Ok(())
    }

    /// Drops what can never matter again to whom it was sent.
    fn forget(&self, state: &mut State) {
        state.sent.retain(|sent| {
            let parcel = &self.cast.parcels[*sent as usize];
            let number = state.members[parcel.to as usize];
            self.members[number as usize].0.minds(&parcel.load)
        });
    }

    fn note(&mut self, step: Step, claims: &[Claim], added: bool) {
        let mut count = |what: &'static str| *self.report.reached.entry(what).or_default() += 1;
        match step {
            Step::Remove(_) => count("removals"),
            Step::Crash => count("crashes"),
            Step::LeadRegion => count("region leaders"),
            _ => {}
        }
        if added {
            count("additions");
        }
        for claim in claims {
            count(match claim {
                Claim::Leads(_) => "elections",
                Claim::Committed { .. } => "commits",
                Claim::Raised => "raised",
            });
        }
    }

    /// What this step makes of this node, worked out once.
    fn remembered(&mut self, number: u32, step: Step) -> Rc<[Outcome]> {
        let code = match step {
            Step::Hear(parcel) => 32 + parcel,
            Step::TimeOut => 0,
            Step::Propose => 1,
            Step::Sync => 2,
            Step::Crash => 3,
            Step::LeadRegion => 4,
            Step::LoseRegion => 5,
            Step::Remove(voter) => 6 + u32::from(voter),
            Step::Add => unreachable!("others have a part in it"),
        };
        if let Some(known) = self.outcomes[number as usize].get(&code) {
            return known.clone();
        }
        let (member, cast) = (&self.members[number as usize].0, &mut self.cast);
        let deed = match step {
            Step::Hear(parcel) => member.hear(cast, parcel),
            Step::TimeOut => member.time_out(cast),
            Step::Propose => member.propose(cast),
            Step::Remove(voter) => member.remove(cast, voter),
            Step::Sync => member.sync(cast),
            Step::LeadRegion => member.lead_region(cast, true),
            Step::LoseRegion => member.lead_region(cast, false),
            Step::Crash => {
                let member = Member::recover(cast, member.place, member.durable.clone());
                Deed { member, sent: Vec::new(), claims: Vec::new() }
            }
            Step::Add => unreachable!("others have a part in it"),
        };
        let outcomes: Rc<[Outcome]> = self.outcomes(number, deed).into();
        if self.remembered >= REMEMBERED {
            self.outcomes.iter_mut().for_each(BTreeMap::clear);
            self.remembered = 0;
        }
        self.remembered += 1;
        self.outcomes[number as usize].insert(code, outcomes.clone());
        outcomes
    }

    fn add(&mut self, state: &State, place: u8) -> (Deed, bool) {
        let leader = &self.members[state.members[place as usize] as usize].0;
        let others = state.members.iter().map(|number| &self.members[*number as usize].0);
        let follow = others.filter(|other| other.place != place && other.durable.term == leader.durable.term);
        let answers: Vec<(u8, Option<Position>)> = follow.map(|other| (other.place, other.durable.committed)).collect();
        let newcomer = state.members.len() as u8 - 1;
        leader.add(&mut self.cast, newcomer, &answers)
    }

    fn outcomes(&mut self, before: u32, deed: Deed) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(2);
        let writes = !deed.member.unsynced.is_empty();
        if writes && self.members[before as usize].0.unsynced.is_empty() {
            let (mut sent, mut claims) = (deed.sent.clone(), deed.claims.clone());
            let member = deed.member.clone().sync_all(&mut self.cast, &mut sent, &mut claims);
            outcomes.push(self.outcome(Deed { member, sent, claims }, false));
        }
        outcomes.push(self.outcome(deed, writes));
        outcomes
    }

    fn outcome(&mut self, deed: Deed, late: bool) -> Outcome {
        let member = self.number_member(deed.member);
        Outcome { member, sent: deed.sent.into(), claims: deed.claims.into(), late }
    }

    fn number_member(&mut self, mut member: Member) -> u32 {
        member.settle(&self.cast);
        let prints = member.portray(&self.cast);
        *self.member_numbers.entry(prints[0]).or_insert_with(|| {
            self.members.push((member, prints));
            self.outcomes.push(BTreeMap::new());
            self.members.len() as u32 - 1
        })
    }

    fn number_history(&mut self, history: History) -> u32 {
        let prints = self.cast.prints(&self.cast.past(&history.committed, &history.leaders), &[]);
        *self.history_numbers.entry(prints[0]).or_insert_with(|| {
            self.histories.push((history, prints));
            self.histories.len() as u32 - 1
        })
    }

    /// The least fingerprint of a state under all renamings. Sums do not care for order.
    fn print(&self, state: &State) -> u128 {
        let spent = state.spent;
        let few = [spent.crashes, spent.late_writes, spent.additions, spent.removals, spent.region_leaders, 0, 0, 0];
        let spent = u128::from(u64::from_le_bytes(few));
        let print = |renaming: usize| {
            let members = state.members.iter().map(|number| self.members[*number as usize].1[renaming]);
            let sent = state.sent.iter().map(|sent| self.cast.parcels[*sent as usize].prints[renaming]);
            let history = self.histories[state.history as usize].1[renaming];
            members.chain(sent).fold(history, u128::wrapping_add)
        };
        let least = (0..self.cast.renamings()).map(print).min().expect("one renaming changes nothing");
        least.wrapping_add(spent.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
    }

    fn member(&self, state: &State, place: u8) -> &Member {
        &self.members[state.members[place as usize] as usize].0
    }

    fn durable(&self, state: &State, place: u8) -> &HardState {
        &self.member(state, place).durable
    }

    /// C1, C2 and C4: whoever says that it has voted or accepted has it on disk, and votes once a term. H1 and H3:
    /// whoever asks at the top leads its region, and what a relay brings is the voter's own word.
    fn judge_sent(&self, state: &State, place: u8, sent: u32) -> Result<(), Broken> {
        let (parcel, durable) = (&self.cast.parcels[sent as usize], self.durable(state, place));
        let Some(message) = word(&parcel.load) else { return Ok(()) };
        if !is_own(&self.cast.voters[place as usize], message) {
            return Err(format!("what n{place} answers comes back as {message:?}"));
        }
        let asks =
            matches!(message, Message::Heartbeat(_) | Message::ElectionRequest(_) | Message::CheckpointPropose(_));
        if asks && !self.member(state, place).leads {
            return Err(format!("n{place} does not lead its region, and says {message:?}"));
        }
        match message {
            Message::ElectionVote(vote) if vote.granted && !vote.pre => {
                let candidate = &self.cast.voters[parcel.to as usize];
                let voted = durable.voted_for.as_ref() == Some(candidate) && durable.term == vote.term;
                if !voted && durable.term <= vote.term {
                    return Err(format!("n{place} grants term {} to n{} before it is durable", vote.term, parcel.to));
                }
                let other = state.sent.iter().map(|sent| &self.cast.parcels[*sent as usize]).find(|other| {
                    let same = |other: &ElectionVote| other.voter == vote.voter && other.term == vote.term;
                    let grants = |m: &ElectionVote| m.granted && !m.pre && same(m);
                    matches!(word(&other.load), Some(Message::ElectionVote(m)) if grants(m)) && other.to != parcel.to
                });
                match other {
                    Some(other) => {
                        Err(format!("n{place} votes for n{} and n{} in term {}", other.to, parcel.to, vote.term))
                    }
                    None => Ok(()),
                }
            }
            Message::CheckpointAck(CheckpointAck { accepted: true, term, index, .. })
                if durable.accepted.pair() < (*term, *index) =>
            {
                Err(format!("n{place} acknowledges {index} of term {term} before it is durable"))
            }
            _ => Ok(()),
        }
    }

    /// C3, H1, H3: whoever leads has the durable votes of a quorum of the voters that it counts by.
    fn judge_leader(&self, state: &State, place: u8, term: Term) -> Result<(), Broken> {
        let member = self.member(state, place);
        let voters = member.group().accepted().voters_in(&self.cast.group).expect("a document of this group");
        let me = &self.cast.voters[place as usize];
        let voted = |voter: &Voter| {
            let durable = self.durable(state, self.cast.place(&voter.node).expect("it takes part"));
            durable.term > term || (durable.term == term && durable.voted_for.as_ref() == Some(me))
        };
        match is_quorum(&voters, voted) {
            _ if !member.leads => Err(format!("n{place} leads in term {term} and does not lead its region")),
            true => Ok(()),
            false => Err(format!("n{place} leads in term {term} without the durable votes of a quorum")),
        }
    }

    /// One leader a term; one hash an index, each the child of the one before; committed is durable on a quorum.
    fn judge_claim(&mut self, state: &mut State, place: u8, claim: &Claim) -> Result<(), Broken> {
        if let Claim::Leads(term) = claim {
            self.judge_leader(state, place, *term)?;
        }
        let mut history = self.histories[state.history as usize].0.clone();
        match claim {
            Claim::Raised => return Ok(()),
            Claim::Leads(term) => match history.leaders.iter().find(|(known, _)| known == term) {
                Some((_, first)) if *first != place => {
                    return Err(format!("n{first} and n{place} lead in term {term}"));
                }
                Some(_) => return Ok(()),
                None => {
                    history.leaders.push((*term, place));
                    history.leaders.sort_unstable();
                }
            },
            Claim::Committed { position, term } => {
                if let Some((_, first)) = history.committed.iter().find(|(index, _)| *index == position.index) {
                    return match *first == position.hash {
                        true => Ok(()),
                        false => Err(format!(
                            "{} and {} are committed at {}",
                            first.short(),
                            position.hash.short(),
                            position.index
                        )),
                    };
                }
                let document = self.cast.document(&position.hash);
                let parent = document.header().parent;
                for (index, hash) in &history.committed {
                    let after = self.cast.document(hash).header().parent;
                    let follows = *index != Index(position.index.get().wrapping_sub(1)) || parent == Some(*hash);
                    let leads = *index != position.index.next() || after == Some(position.hash);
                    if !follows || !leads {
                        return Err(format!("{} and {index} are committed and no chain", position.index));
                    }
                }
                let voters = document.voters_in(&self.cast.group).expect("a document of this group");
                let holds = |voter: &Voter| {
                    let place = self.cast.place(&voter.node).expect("it takes part");
                    self.durable(state, place).accepted.pair() >= (*term, position.index)
                };
                if !is_quorum(&voters, holds) {
                    return Err(format!("{} is committed in term {term} and not durable on a quorum", position.index));
                }
                history.committed.push((position.index, position.hash));
                history.committed.sort_unstable();
            }
        }
        state.history = self.number_history(history);
        Ok(())
    }

    /// The steps of a path in words.
    fn told(&self, path: Option<&Rc<Link>>) -> Vec<String> {
        let mut steps = Vec::new();
        let mut at = path;
        while let Some(link) = at {
            let what = match link.step {
                Step::Hear(parcel) => match &self.cast.parcels[parcel as usize].load {
                    Load::Message(message) => format!("hears {message:?}"),
                    Load::Relayed { message, .. } => format!("hears by a relay {message:?}"),
                    Load::Answer { via, message } => format!("hears from n{via} the answer {message:?}"),
                    Load::Content { from, hash } => format!("gets document {} from n{from}", hash.short()),
                },
                Step::TimeOut => "times out".to_owned(),
                Step::Propose => "proposes the next checkpoint".to_owned(),
                Step::Remove(voter) => format!("proposes one without n{voter}"),
                Step::Add => "wants the newcomer to vote".to_owned(),
                Step::Sync => "has its oldest write on disk".to_owned(),
                Step::LeadRegion => "comes to lead its region".to_owned(),
                Step::LoseRegion => "leads its region no more".to_owned(),
                Step::Crash => "crashes and starts again".to_owned(),
            };
            let late = if link.late { "; its disk does not answer yet" } else { "" };
            steps.push(format!("n{} {what}{late}", link.place));
            at = link.before.as_ref();
        }
        steps.reverse();
        steps
    }
}

/// The message in a parcel, however it travels.
fn word(load: &Load) -> Option<&Message> {
    match load {
        Load::Message(message) | Load::Relayed { message, .. } | Load::Answer { message, .. } => Some(message),
        Load::Content { .. } => None,
    }
}
