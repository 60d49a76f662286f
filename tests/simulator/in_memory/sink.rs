//! The writing end of the double: atomic transactions, and faults around their commit.

use std::collections::BTreeMap;

use tallyman::processor::ports::{CommitOffset, Committed, Output, PortError, Sink, TransactError};

use super::{Crash, Fault, InMemoryLog, State};

/// A transactional producer of the double.
pub struct InMemorySink {
    log: InMemoryLog,
    transactional_id: String,
    client_id: String,
    epoch: u64,
}

impl InMemorySink {
    /// A producer for the member `client_id` of `group`; an older one of the same id is fenced.
    #[must_use]
    pub fn new(log: &InMemoryLog, group: &str, client_id: &str) -> Self {
        let transactional_id = format!("{group}/{client_id}");
        let epoch = init(&mut log.lock(), &transactional_id);
        Self { log: log.clone(), transactional_id, client_id: client_id.to_owned(), epoch }
    }
}

/// Takes a transactional id over: ends what its older producers have open and fences them.
pub(super) fn init(state: &mut State, id: &str) -> u64 {
    state.open.remove(id);
    let epochs: &mut BTreeMap<String, u64> = &mut state.epochs;
    let epoch = epochs.entry(id.to_owned()).or_default();
    *epoch += 1;
    *epoch
}

impl Sink for InMemorySink {
    type Membership = String;

    fn transact(
        &mut self,
        outputs: &[Output],
        offsets: &[CommitOffset],
        membership: &String,
    ) -> Result<(), TransactError> {
        let before = self.log.step("transact");
        let mut state = self.log.lock();
        if state.epochs.get(&self.transactional_id) != Some(&self.epoch) {
            return Err(TransactError::Fenced("another producer has this id".into()));
        }
        if !state.members.contains_key(membership) {
            return Err(TransactError::Aborted("the member is not in the group".into()));
        }
        match before {
            Some(Fault::Abort) => return Err(TransactError::Aborted("injected".into())),
            Some(Fault::AbortUnanswered) => return Err(TransactError::Unknown("injected".into())),
            _ => {}
        }
        state.open.insert(self.transactional_id.clone(), 0);
        drop(state);
        // A crash here leaves the transaction open, as between send and commit.
        self.log.step("commit");
        let mut state = self.log.lock();
        if state.open.remove(&self.transactional_id).is_none() {
            return Err(TransactError::Fenced("another producer ended the transaction".into()));
        }
        state.publish(outputs);
        for CommitOffset { partition, offset, metadata } in offsets {
            state.offsets.insert(*partition, Committed { offset: *offset, metadata: metadata.clone() });
        }
        drop(state);
        // A crash here is one between the commit and what follows it.
        self.log.step("answer");
        match before {
            Some(Fault::CommitUnanswered) => Err(TransactError::Unknown("injected".into())),
            Some(Fault::Crash) => std::panic::resume_unwind(Box::new(Crash)),
            _ => Ok(()),
        }
    }

    fn fence(&mut self, transactional_id: &str) -> Result<(), PortError> {
        self.log.step("fence");
        init(&mut self.log.lock(), transactional_id);
        Ok(())
    }

    fn renew(&mut self) -> Result<(), PortError> {
        self.log.step("renew");
        self.epoch = init(&mut self.log.lock(), &self.transactional_id);
        Ok(())
    }

    fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }
}
