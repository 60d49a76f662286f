//! The flush: all that is folded goes to the store in one atomic batch, position included (Law 1). Sealing what was
//! added to facts, encoding and writing it takes a while, so it is done in a thread of its own while the task
//! folds and decides on; what it writes is what was folded when it began, and a task has at most one at a time (Law 6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Clock as _;
use crate::domain::credits::CreditSum;
use crate::domain::cube::seal::Sealer;
use crate::domain::cube::segment::Frozen;
use crate::domain::usage::dedupe::{IdBucket, Window};
use crate::processor::orgs::Law;
use crate::store::{Store, StoreBatch, StoreError, StoreWriter, TaskMeta, Written};
use crate::telemetry::Telemetry;

use super::{NewIds, Task};

/// How much less the processor's time goes to a flush than to the worker that it runs beside: decisions come first.
const NICENESS: i32 = 5;

/// A flush on its way.
pub(super) struct Flushing {
    /// `None` once it is waited for.
    thread: Option<JoinHandle<(Sealer, Frozen, Result<Sealing, StoreError>)>>,
    /// Whether what it adds is counted in metrics: a replay's was counted before.
    counts: bool,
    /// Ids that the store does not hold yet.
    pub(super) ids: Arc<NewIds>,
    /// Usage and policies position that it brings the store to.
    positions: (i64, i64),
    started: Instant,
}

/// What a flush wrote.
struct Sealing {
    written: Written,
    /// Facts and totals.
    rows: usize,
    /// Credits of each product and model, absent as empty.
    credits: Vec<(String, Option<String>, CreditSum)>,
}

impl Drop for Flushing {
    /// A task that goes waits for its flush: the store is closed or opened again next.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Task {
    /// Whether something is folded or taken that the store does not hold yet and no flush carries.
    #[must_use]
    pub fn is_ahead_of_store(&self) -> bool {
        let kept = self.flushing.as_ref().map_or(self.persisted, |flushing| flushing.positions);
        (self.meta.position, self.meta.policies_position) != kept || !self.new_levels.is_empty()
    }

    /// Whether a flush is on its way.
    #[must_use]
    pub const fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// How long ago its last flush began, or it was recovered.
    #[must_use]
    pub fn unflushed_for(&self) -> Duration {
        self.flushed_at.elapsed()
    }

    /// How long its last flush took.
    #[must_use]
    pub const fn flush_took(&self) -> Duration {
        self.flush_took
    }

    /// How many additions, content rows and ids wait for a flush.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.fold.dirty_len() + self.new_ids.len()
    }

    /// Begins to write all that is folded to the store. Waits for the end where something needs the store to hold it.
    ///
    /// # Errors
    /// When the store cannot be written.
    ///
    /// # Panics
    /// When the position is past the last known commit: that would break Law 3.
    pub fn begin_flush(&mut self, telemetry: &Telemetry) -> Result<(), StoreError> {
        assert!(
            self.meta.position <= self.committed.0,
            "Law 3: a store batch carries a position only once its outputs are published"
        );
        self.end_flush(telemetry)?;
        // Law 5: the first store batch follows the first known commit. Before it, a store with a position would say that O*
        // was lost; and nothing but terms, which are read again, can have come to a task of a first start.
        let is_new = self.transactions == 0 && self.store.meta().is_none();
        if is_new && self.meta.position == self.meta.origin {
            return Ok(());
        }
        self.flushed_at = Instant::now();
        // Terms read past the last commit are stored early, for they are keyed by offset; what they caused is not
        // published yet, so they are read again after a crash.
        let policies_position = self.meta.policies_position.min(self.committed.1);
        let meta = TaskMeta { policies_position, policies: self.committed_policies, ..self.meta.clone() };
        let batch = self.batch()?;
        let ids = Arc::new(std::mem::replace(&mut self.new_ids, std::mem::take(&mut self.spare_ids)));
        let window = self.rules.window;
        let counts = bucket_counts(&ids, window, window.oldest_live(self.meta.log_time));
        let rates = self.guard.as_ref().map_or(0, |guard| guard.rates.heap_bytes());
        // The sealer has the same texts once more.
        let heap = 2 * self.fold.heap_bytes() + rates;
        let mut sealer = self.sealer.take().expect("no flush is on its way, so the sealer is here");
        let frozen = self.fold.freeze();
        let (writer, positions) = (self.store.writer(&counts), (meta.position, meta.policies_position));
        let its_ids = Arc::clone(&ids);
        let flush = move || {
            // Linux keeps priorities by thread. Where it is refused the flush is as urgent as the rest.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let sealing = write(&mut sealer, &frozen, (&its_ids, window), writer, batch, &meta);
            drop(its_ids);
            (sealer, frozen, sealing)
        };
        let thread = std::thread::Builder::new().name(format!("flush-{}", self.partition)).spawn(flush);
        let thread = thread.map_err(|error| self.store.no_thread(&error))?;
        self.flushing = Some(Flushing {
            thread: Some(thread),
            counts: self.speaking,
            ids,
            positions,
            started: self.flushed_at,
        });
        if heap > self.settings.working_set_bytes_max {
            self.end_flush(telemetry)?;
            self.fold.forget();
            self.sealer.as_mut().expect("the flush has ended").forget();
            self.places.clear();
            if let Some(guard) = &mut self.guard {
                guard.rates.forget();
            }
        }
        if self.orgs.wants_flush() {
            self.end_flush(telemetry)?;
            let now = self.instant(self.settings.clock.now());
            let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
            self.orgs.reload(&self.store, law)?;
        }
        Ok(())
    }

    /// What the batch holds besides facts and ids.
    fn batch(&mut self) -> Result<StoreBatch, StoreError> {
        let mut batch = self.store.batch();
        self.fold.contents(|key, content| {
            batch.put_content(key, content);
            Ok::<(), StoreError>(())
        })?;
        if let Some(guard) = &mut self.guard {
            guard.rates.flush(|org, ring| batch.put_rate(org, ring));
        }
        batch.expire_ids_before(self.rules.window.oldest_live(self.meta.log_time));
        for (offset, terms) in self.new_terms.drain(..) {
            batch.put_terms(offset, &terms);
        }
        for (key, level) in std::mem::take(&mut self.new_levels) {
            match level {
                Some(decision) => batch.put_level(&decision),
                None => batch.delete_level(&key),
            }
        }
        Ok(batch)
    }

    /// Waits for the flush on its way, if any, and takes note of what it wrote.
    ///
    /// # Errors
    /// When the store could not be written.
    pub fn end_flush(&mut self, telemetry: &Telemetry) -> Result<(), StoreError> {
        let Some(mut flushing) = self.flushing.take() else { return Ok(()) };
        let thread = flushing.thread.take().expect("it is waited for once");
        let (sealer, frozen, sealing) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.sealer = Some(sealer);
        self.fold.thaw(frozen);
        if let Some(mut ids) = Arc::into_inner(std::mem::take(&mut flushing.ids)) {
            ids.clear();
            self.spare_ids = ids;
        }
        let sealing = sealing?;
        self.store.written(sealing.written)?;
        if flushing.counts {
            for (product, model, credits) in &sealing.credits {
                telemetry.credits(product, model.as_deref(), *credits);
            }
        }
        self.persisted = flushing.positions;
        self.flush_took = flushing.started.elapsed();
        telemetry.flushed(self.partition, self.flush_took, sealing.rows);
        Ok(())
    }

    /// Takes note of a flush that has ended by now.
    ///
    /// # Errors
    /// As `end_flush`.
    pub fn look_at_flush(&mut self, telemetry: &Telemetry) -> Result<(), StoreError> {
        if self
            .flushing
            .as_ref()
            .and_then(|flushing| flushing.thread.as_ref())
            .is_some_and(JoinHandle::is_finished)
        {
            return self.end_flush(telemetry);
        }
        Ok(())
    }

    /// Writes all that is folded to the store, and returns when it is written.
    ///
    /// # Errors
    /// As `begin_flush`.
    pub fn persist(&mut self, telemetry: &Telemetry) -> Result<(), StoreError> {
        self.begin_flush(telemetry)?;
        self.end_flush(telemetry)
    }

    /// Gives the store back, throwing away all that is in memory (Law 3: after a failed transaction). What a flush on
    /// its way writes was published, so it is waited for.
    ///
    /// # Errors
    /// When that flush failed: what the disk holds of it is only known once the store, closed now, is opened again.
    pub fn into_store(mut self, telemetry: &Telemetry) -> Result<Store, StoreError> {
        let ended = self.end_flush(telemetry);
        match ended {
            Ok(()) => Ok(self.store),
            Err(error) => {
                // Why it cannot be brought to the disk is known already.
                let _ = self.store.close();
                Err(error)
            }
        }
    }

    /// Brings what was persisted to the disk, in the background.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush_store(&mut self) -> Result<(), StoreError> {
        self.store.flush_in_background()
    }
}

/// What the thread does.
fn write(
    sealer: &mut Sealer,
    frozen: &Frozen,
    (ids, window): (&NewIds, Window),
    writer: StoreWriter,
    mut batch: StoreBatch,
    meta: &TaskMeta,
) -> Result<Sealing, StoreError> {
    let mut rows = 0;
    sealer.seal(frozen, |sealed| {
        rows += sealed.facts + sealed.totals.len();
        batch.add(sealed);
        Ok::<(), StoreError>(())
    })?;
    batch.put_ids(ids.iter().map(|&(key, seen)| (window.bucket(seen.at), key, seen)));
    let credits = sealer.credits(frozen).into_iter().map(|(product, model, credits)| {
        (product.unwrap_or_default().to_owned(), model.map(str::to_owned), credits)
    });
    let credits = credits.collect();
    Ok(Sealing { written: writer.write(batch, meta)?, rows, credits })
}

/// How many ids go to each bucket that is not expired.
fn bucket_counts(ids: &NewIds, window: Window, oldest: IdBucket) -> BTreeMap<IdBucket, usize> {
    let mut counts = BTreeMap::new();
    // Log time hardly ever goes back, so buckets come in runs.
    let (mut bucket, mut count) = (oldest, 0);
    for of_id in ids.iter().map(|(_, seen)| window.bucket(seen.at)) {
        if of_id != bucket {
            *counts.entry(bucket).or_default() += count;
            (bucket, count) = (of_id, 0);
        }
        count += 1;
    }
    *counts.entry(bucket).or_default() += count;
    counts.retain(|bucket, count| *count > 0 && *bucket >= oldest);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::domain::usage::dedupe::{IdKey, Seen};

    #[test]
    fn ids_are_counted_by_bucket_as_the_batch_writes_them_without_those_that_have_expired() {
        let window = Window::new(400);
        let mut ids = NewIds::default();
        for (number, at) in [10, 20, 150, 150, 260, 120, 990].into_iter().enumerate() {
            ids.insert(IdKey(number as u128), Seen { at: Timestamp::from_micros(at), fingerprint: 0 });
        }
        let oldest = IdBucket(1);
        let mut batch = StoreBatch::default();
        batch.expire_ids_before(oldest);
        batch.put_ids(ids.iter().map(|&(key, seen)| (window.bucket(seen.at), key, seen)));
        let counts = bucket_counts(&ids, window, oldest);
        assert_eq!(counts, BTreeMap::from([(IdBucket(1), 3), (IdBucket(2), 1), (IdBucket(9), 1)]));
        assert_eq!(counts, batch.count_ids());
    }
}
