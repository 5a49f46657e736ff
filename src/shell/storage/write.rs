//! Writing: batches in order, as many as are waiting in one commit.

use std::io;
use std::time::Duration;

use redb::WriteTransaction;
use tokio::sync::mpsc;

use crate::core::hard_state::Record;
use crate::core::id::PersistSeq;
use crate::shell::clock::Clock;
use crate::shell::storage::Storage;
use crate::shell::storage::open::io_hint;
use crate::shell::storage::tables::{self, seal};

/// Why a write failed. The node must stop: what it holds in memory may not be on disk.
#[derive(Debug, thiserror::Error)]
#[error("writing to {dir} failed: {hint}; the node stops, and goes on where it was when it is started again")]
pub struct WriteError {
    pub dir: String,
    pub hint: String,
}

/// Accepts batches and tells when they are durable.
pub struct Writer {
    jobs: mpsc::UnboundedSender<(PersistSeq, Vec<Record>)>,
}

/// Batches that one commit takes at most.
const COMMIT_BATCHES_MAX: usize = 256;

impl Writer {
    /// Starts the writer of a store. `done` is called with the newest durable sequence number and the time
    /// its commit took, or once with the error after which nothing more is written.
    pub fn start(storage: Storage, done: impl Fn(Result<(PersistSeq, Duration), WriteError>) + Send + 'static) -> Self {
        let (jobs, mut waiting) = mpsc::unbounded_channel::<(PersistSeq, Vec<Record>)>();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, COMMIT_BATCHES_MAX).await > 0 {
                let jobs = std::mem::take(&mut batch);
                let newest = jobs.last().expect("at least one was received").0;
                let begun = Clock::default().now().mono;
                let written = match storage.dir {
                    // Memory answers at once: no need for another thread.
                    None => storage.commit(jobs),
                    Some(_) => {
                        let storage = storage.clone();
                        tokio::task::spawn_blocking(move || storage.commit(jobs)).await.unwrap_or_else(|panic| {
                            Err(WriteError { dir: String::new(), hint: format!("the writer died: {panic}") })
                        })
                    }
                };
                let took = Clock::default().now().mono.since(begun);
                let failed = written.is_err();
                done(written.map(|()| (newest, took)));
                if failed {
                    return;
                }
            }
        });
        Self { jobs }
    }

    /// Writes these records after all earlier ones.
    pub fn write(&self, seq: PersistSeq, records: Vec<Record>) {
        // A writer that failed has told so; the node is stopping.
        let _ = self.jobs.send((seq, records));
    }
}

impl Storage {
    /// Writes batches in order, atomically, and makes them durable.
    ///
    /// # Errors
    /// [`WriteError`] if the store could not be written; none of the batches took effect then.
    pub fn commit(&self, batches: Vec<(PersistSeq, Vec<Record>)>) -> Result<(), WriteError> {
        let result = self.db.begin_write().map_err(redb::Error::from).and_then(|write| {
            for (_, records) in &batches {
                // Most records are entries of our own, thousands in a row: their table is opened once for all of them.
                for row in records.chunk_by(|a, b| is_own(a) && is_own(b)) {
                    if is_own(&row[0]) { put_own(&write, row)? } else { put(&write, &row[0])? }
                }
            }
            Ok(write.commit()?)
        });
        result.map_err(|error| WriteError {
            dir: self.dir.as_ref().map_or_else(|| "memory".to_owned(), |dir| dir.display().to_string()),
            hint: hint(&error),
        })
    }
}

fn hint(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(error) => io_hint(error),
        redb::Error::Backend(error) => error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), io_hint),
        error => error.to_string(),
    }
}

fn is_own(record: &Record) -> bool {
    matches!(record, Record::Own(_))
}

fn put_own(write: &WriteTransaction, records: &[Record]) -> Result<(), redb::Error> {
    let mut table = write.open_table(tables::OWN)?;
    for record in records {
        if let Record::Own(entry) = record {
            table.insert(entry.channel.as_str(), &seal(entry)[..])?;
        }
    }
    Ok(())
}

fn put(write: &WriteTransaction, record: &Record) -> Result<(), redb::Error> {
    match record {
        Record::Cluster(id) => {
            write.open_table(tables::META)?.insert(tables::CLUSTER, &seal(id)[..])?;
        }
        Record::NoCluster => {
            write.open_table(tables::META)?.remove(tables::CLUSTER)?;
            write.open_table(tables::HARD)?.retain(|_, _| false)?;
        }
        Record::Hard(group, state) => {
            write.open_table(tables::HARD)?.insert(group.to_string().as_str(), &seal(state)[..])?;
        }
        Record::Document(document) => {
            let mut table = write.open_table(tables::DOCUMENTS)?;
            table.insert(&document.hash().as_bytes()[..], document.bytes().as_bytes())?;
        }
        Record::Body(body) => {
            write.open_table(tables::BODIES)?.insert(&body.hash().as_bytes()[..], body.packed())?;
        }
        Record::Committed(group, position) => {
            let place = (group.to_string(), position.index.get());
            write.open_table(tables::LEDGER)?.insert((place.0.as_str(), place.1), &seal(&position.hash)[..])?;
        }
        Record::ClockMark(mark) => {
            write.open_table(tables::META)?.insert(tables::CLOCK_MARK, &seal(mark)[..])?;
        }
        Record::Own(_) => put_own(write, std::slice::from_ref(record))?,
        Record::KeepBody(held) => {
            write.open_table(tables::HELD)?.insert(&held.hash.as_bytes()[..], &seal(held)[..])?;
        }
        Record::DropBody(hash) => {
            write.open_table(tables::BODIES)?.remove(&hash.as_bytes()[..])?;
            write.open_table(tables::HELD)?.remove(&hash.as_bytes()[..])?;
        }
        Record::DropOwn(channel) => {
            write.open_table(tables::OWN)?.remove(channel.as_str())?;
        }
        Record::LastSeen(addrs) => {
            write.open_table(tables::META)?.insert(tables::LAST_SEEN, &seal(addrs)[..])?;
        }
    }
    Ok(())
}
