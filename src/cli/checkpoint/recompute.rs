//! Estimates of checkpoints, computed again from the readings that nodes keep.

use std::collections::BTreeMap;

use crate::cli::checkpoint::{PATIENCE, asking_region};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::core::fusion::document::{Fused, Summary, summarize_again, verify};
use crate::core::id::{GroupId, Hash, Index, RegionId};
use crate::core::ledger::document::{Document, Header};
use crate::core::state::entry::{Entry, Key, KeyedEntry};
use crate::shell::http::model::Status;

/// Nodes of every region, of whose readings a global document has estimates.
pub(super) struct Regions {
    client: Client,
    /// Fetched when the first is asked for.
    status: Option<Status>,
    /// Those whose readings could not be had, and why not.
    without: BTreeMap<RegionId, String>,
}

impl Regions {
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), status: None, without: BTreeMap::new() }
    }

    /// Regions whose readings could not be had, and why not.
    pub fn without(&self) -> &BTreeMap<RegionId, String> {
        &self.without
    }

    /// What the regions' leaders said of the readings that a global document's estimates are of, made anew from these;
    /// `None` if some are no longer kept, or no node of their region answers.
    pub async fn summaries(&mut self, header: &Header, fused: &Fused) -> Result<Option<Vec<Summary>>, CliError> {
        let mut summaries = Vec::new();
        for region in header.voters.regions().keys() {
            let named = || header.regions.get(region).map(|checkpoint| checkpoint.index);
            let Some(index) = fused.of.get(region).copied().unwrap_or_else(named) else { continue };
            match self.summary(region, index).await? {
                Ok(summary) => summaries.extend(summary),
                Err(why) => {
                    self.without.insert(region.clone(), why);
                    return Ok(None);
                }
            }
        }
        Ok(Some(summaries))
    }

    /// The summary of a region's checkpoint; none of one without readings.
    async fn summary(&mut self, region: &RegionId, index: Index) -> Result<Result<Option<Summary>, String>, CliError> {
        if self.status.is_none() {
            self.status = Some(self.client.get("/v1/status", PATIENCE).await?);
        }
        let status = self.status.as_ref().expect("it was just fetched");
        let there = match asking_region(&self.client, status, region.as_str()) {
            Ok(there) => there,
            Err(error) => return Ok(Err(error.message)),
        };
        let place = index.get();
        // The readings first: most documents are long kept when these are gone.
        let body = match there.get_bytes(&format!("/v1/checkpoints/{place}/body"), PATIENCE).await {
            Ok(body) => body,
            Err(error) => return Ok(Err(error.message)),
        };
        let bytes = match there.get_bytes(&format!("/v1/checkpoints/{place}"), PATIENCE).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.message)),
        };
        let wrong = |why: String| CliError::failed(format!("checkpoint {place} of {region}: {why}"));
        let document = Document::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| wrong(error.to_string()))?;
        let header = document.header();
        let (Some(fused), Some(named)) = (&header.fused, header.body) else { return Ok(Ok(None)) };
        if Hash::of(&body) != named {
            return Err(wrong("its readings are not those that it names".into()));
        }
        let entries = entries(&body).map_err(wrong)?;
        let held = entries.iter().map(|(key, entry)| (key.borrowed(), entry));
        let at = header.taken_at.time.wall();
        summarize_again(fused, held, region, index, at).map(|summary| Ok(Some(summary))).map_err(wrong)
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
