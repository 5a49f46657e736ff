//! Estimates of checkpoints, computed again from the readings that nodes keep.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::checkpoint::{PATIENCE, asking_region};
use crate::cli::client::Client;
use crate::cli::error::{CliError, Kind};
use crate::core::fusion::document::{Fused, Summary, summarize_again, verify};
use crate::core::id::{GroupId, Hash, Index, RegionId};
use crate::core::ledger::document::{Document, Header};
use crate::core::state::entry::{Entry, Key, KeyedEntry};
use crate::shell::http::model::Status;

/// Nodes of a region that are asked for readings: some came later, and never held them.
const TRIES: usize = 3;

/// Nodes of every region, of whose readings a global document has estimates.
pub(super) struct Regions {
    client: Client,
    /// Fetched when the first is asked for.
    status: Option<Status>,
    /// Those whose readings could not be had, and why not.
    without: BTreeMap<RegionId, String>,
    /// Those of them that nobody answers for.
    silent: BTreeSet<RegionId>,
}

/// Why a summary could not be made anew.
enum Trouble {
    /// The readings are not to be had.
    Missing(String),
    /// What is had is not what the global document was made of.
    Broken(String),
}

impl Regions {
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), status: None, without: BTreeMap::new(), silent: BTreeSet::new() }
    }

    /// Regions whose readings could not be had, and why not.
    pub fn without(&self) -> &BTreeMap<RegionId, String> {
        &self.without
    }

    /// What the leaders of `regions`, those of the document before, said of the readings that a global document's
    /// estimates are of, made anew from these; `None` if some are no longer kept, or no node of their region answers.
    ///
    /// # Errors
    /// What is broken, within; that nobody answers at all, without.
    pub async fn summaries(
        &mut self,
        regions: &BTreeSet<RegionId>,
        header: &Header,
        fused: &Fused,
    ) -> Result<Result<Option<Vec<Summary>>, String>, CliError> {
        let status = match self.status.take() {
            Some(status) => status,
            None => self.client.get("/v1/status", PATIENCE).await?,
        };
        let mut summaries = Vec::new();
        let mut outcome = Ok(());
        for region in regions {
            let named = header.regions.get(region);
            let (index, hash) = match (fused.of.get(region), named) {
                (Some(None), _) | (None, None) => continue,
                (Some(Some(index)), _) => (*index, None),
                (None, Some(named)) => (named.index, Some(named.hash)),
            };
            match self.summary(&status, region, index, hash).await {
                Ok(summary) => summaries.extend(summary),
                Err(trouble) => {
                    outcome = Err((region, trouble));
                    break;
                }
            }
        }
        self.status = Some(status);
        Ok(match outcome {
            Ok(()) => Ok(Some(summaries)),
            Err((region, Trouble::Missing(why))) => {
                self.without.insert(region.clone(), why);
                Ok(None)
            }
            Err((region, Trouble::Broken(why))) => Err(format!("what it says of {region} cannot be so: {why}")),
        })
    }

    /// The summary of a region's checkpoint; none of one without readings.
    async fn summary(
        &mut self,
        status: &Status,
        region: &RegionId,
        index: Index,
        hash: Option<Hash>,
    ) -> Result<Option<Summary>, Trouble> {
        let (document, body) = self.fetch(status, region, index).await?;
        let wrong = |why: String| Trouble::Broken(format!("its checkpoint {}: {why}", index.get()));
        let document =
            Document::parse(&String::from_utf8_lossy(&document)).map_err(|error| wrong(error.to_string()))?;
        if let Some(hash) = hash.filter(|hash| document.hash() != *hash) {
            return Err(wrong(format!("it is {} there, and {} is named", document.hash().short(), hash.short())));
        }
        let header = document.header();
        let (Some(fused), Some(named)) = (&header.fused, header.body) else { return Ok(None) };
        if Hash::of(&body) != named {
            return Err(wrong("its readings are not those that it names".into()));
        }
        let entries = entries(&body).map_err(wrong)?;
        let held = entries.iter().map(|(key, entry)| (key.borrowed(), entry));
        let at = header.taken_at.time.wall();
        summarize_again(fused, held, region, index, at).map(Some).map_err(wrong)
    }

    /// A region's document and its readings, from the first of some of its nodes that holds both.
    async fn fetch(&mut self, status: &Status, region: &RegionId, index: Index) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
        if self.silent.contains(region) {
            return Err(Trouble::Missing(self.without.get(region).cloned().unwrap_or_default()));
        }
        let there =
            asking_region(&self.client, status, region.as_str()).map_err(|error| Trouble::Missing(error.message))?;
        let (mut why, mut silent) = (String::new(), true);
        for addr in there.target.addrs.iter().take(TRIES) {
            let node = there.at(addr);
            // The readings first: most documents are long kept when these are gone.
            let body = node.get_bytes(&format!("/v1/checkpoints/{}/body", index.get()), PATIENCE).await;
            let held = match body {
                Ok(body) => {
                    node.get_bytes(&format!("/v1/checkpoints/{}", index.get()), PATIENCE).await.map(|doc| (doc, body))
                }
                Err(error) => Err(error),
            };
            match held {
                Ok(held) => return Ok(held),
                Err(error) => {
                    silent &= error.kind == Kind::Unreachable;
                    why = error.message;
                }
            }
        }
        if silent {
            self.silent.insert(region.clone());
        }
        Err(Trouble::Missing(why))
    }
}

fn entries(body: &[u8]) -> Result<Vec<(Key, Entry)>, String> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let entries = lines.map(|line| serde_json::from_slice::<KeyedEntry>(line).map(KeyedEntry::into_parts));
    entries.collect::<Result<_, _>>().map_err(|error| format!("a reading is none: {error}"))
}

/// Computes a document's estimates again from its readings, with the parameters that it names: how many there are.
pub(super) fn estimates(document: &Document, body: &[u8]) -> Result<u64, String> {
    let header = document.header();
    let (Some(fused), GroupId::Region(region)) = (&header.fused, &header.group) else { return Ok(0) };
    let entries = entries(body)?;
    let at = header.taken_at.time.wall();
    verify(fused, entries.iter().map(|(key, entry)| (key.borrowed(), entry)), region, at)?;
    Ok(fused.estimates.len() as u64)
}
