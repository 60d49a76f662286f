//! Thousands of records in one call: `rd_kafka_consume_batch_queue`, which rust-rdkafka does not wrap, on a queue
//! of our own to which the queues of single partitions are forwarded. All unsafe code of the project stands here, but for one
//! call in `memory`. It never touches the consumer's own queue, where rebalances and errors stand. Next to read: `source`.
#![allow(unsafe_code, reason = "librdkafka's batch consume has no safe wrapper, and is 2.3 times as fast as poll")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::{RDKafka, RDKafkaErrorCode, RDKafkaQueue, RDKafkaRespErr};
use rdkafka_sys as sys;

use super::client::{ConsumerState, Wake};
use crate::domain::time::Timestamp;
use crate::processor::ports::{BrokerTime, Header, Record, RecordBatch};

pub(super) type StatefulConsumer = BaseConsumer<ConsumerState>;

/// Records that librdkafka handed over in one call.
pub struct Batch {
    // Declared first: messages are freed before the client that made them can go.
    messages: Vec<Message>,
    ends: Vec<(i32, i64)>,
    _consumer: Arc<StatefulConsumer>,
}

/// One message of librdkafka's, owned: freed when dropped.
struct Message(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a consumed message belongs to whoever took it off the queue; librdkafka lets any thread read and destroy
// it.
unsafe impl Send for Message {}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the pointer came from consume_batch_queue, which gave it to us, and only this drop frees it.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl Message {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: valid until `drop`, and nobody writes to it.
        unsafe { self.0.as_ref() }
    }

    fn record(&self) -> Record<'_> {
        let raw = self.raw();
        // SAFETY: librdkafka's (pointer, length) pairs of one message, valid as long as the message.
        let (key, value) = unsafe { (bytes(raw.key, raw.key_len), bytes(raw.payload, raw.len)) };
        // SAFETY: reads two fields of a valid message; the type of the timestamp is not asked for.
        let millis = unsafe { sys::rd_kafka_message_timestamp(raw, ptr::null_mut()) };
        Record {
            partition: raw.partition,
            offset: raw.offset,
            timestamp: Timestamp::from_millis(millis),
            key,
            value,
        }
    }

    fn headers(&self) -> Vec<Header> {
        let mut list = ptr::null_mut();
        // SAFETY: on success `list` borrows from the message. Parsing writes to the message's own cache, behind
        // the pointer that only this owner has.
        let found = unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut list) };
        let mut headers = Vec::new();
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `list` is valid as above; name and value are set on success and borrow from it.
        while unsafe {
            sys::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut len)
        } == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            // SAFETY: a terminated string and a (pointer, length) pair, valid as long as the message; copied here.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, len)) };
            headers.push((name.to_string_lossy().into_owned(), value.unwrap_or_default().to_vec()));
        }
        headers
    }
}

/// Librdkafka's bytes: null is absent, and an empty one need not be a valid pointer.
///
/// # Safety
/// `data` is null or holds `len` bytes that outlive `'a`.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    match (data.is_null(), len) {
        (true, _) => None,
        (false, 0) => Some(&[]),
        // SAFETY: what the caller promises.
        (false, _) => Some(unsafe { slice::from_raw_parts(data.cast(), len) }),
    }
}

impl RecordBatch for Batch {
    fn len(&self) -> usize {
        self.messages.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        self.messages[index].record()
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.messages[index].headers()
    }

    fn ends(&self) -> &[(i32, i64)] {
        &self.ends
    }
}

/// What stood in the queue in place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Of which partition.
    pub(super) partition: i32,
    /// Where in it; the end when the code is `PartitionEOF`.
    pub(super) offset: i64,
    /// What happened.
    pub(super) code: RDKafkaErrorCode,
}

/// How often partitions are led to our queue again.
const LEAD: Duration = Duration::from_millis(100);

/// A queue of our own, and the queues of partitions that are forwarded to it.
pub(super) struct BatchQueue {
    queue: NonNull<RDKafkaQueue>,
    forwarded: HashMap<(String, i32), NonNull<RDKafkaQueue>>,
    /// When they were last led here.
    led_at: Instant,
    taken: Vec<*mut sys::rd_kafka_message_t>,
    /// The offset that comes next after what was taken, by partition.
    next: HashMap<i32, i64>,
    broker_time: Option<BrokerTime>,
    // Rung by librdkafka through a raw pointer until `drop` switches that off.
    wake: Arc<Wake>,
    consumer: Arc<StatefulConsumer>,
}

// SAFETY: librdkafka's queues may be used by any thread; the pointers in `taken` are null or stale between two
// calls.
unsafe impl Send for BatchQueue {}

unsafe extern "C" fn ring(_: *mut RDKafka, wake: *mut c_void) {
    // SAFETY: the pointer is that of the `Arc<Wake>` which the queue keeps until the callback is off.
    unsafe { &*wake.cast::<Wake>() }.ring();
}

impl BatchQueue {
    /// An empty queue of `consumer` that gives at most `records_max` at once and rings when it stops being empty.
    pub(super) fn new(consumer: &Arc<StatefulConsumer>, records_max: usize) -> Self {
        let wake = Arc::clone(&consumer.context().wake);
        // SAFETY: the client is alive, and is kept so by `consumer`. Creating a queue cannot fail but by running
        // out of memory.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).expect("librdkafka aborts when it has no memory for a queue");
        // SAFETY: `wake` outlives the callback, see `drop`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(ring), Arc::as_ptr(&wake).cast_mut().cast());
        }
        Self {
            queue,
            forwarded: HashMap::new(),
            led_at: Instant::now(),
            taken: vec![ptr::null_mut(); records_max],
            next: HashMap::new(),
            broker_time: None,
            wake,
            consumer: Arc::clone(consumer),
        }
    }

    /// Leads a partition's records here. To be called before the partition is assigned, so that none goes to the
    /// consumer's own queue, and again after: letting go of a partition ends the forwarding, and does so only
    /// while the next assignment is on its way. What has arrived in between comes along.
    pub(super) fn forward(&mut self, topic: &str, partition: i32) {
        let Ok(name) = CString::new(topic) else { return };
        // Asked for each time: librdkafka may have forgotten a partition that was let go before its topic was known, and then
        // has another queue for it now.
        // SAFETY: a live client, a terminated name; the returned reference is ours to destroy.
        let source = unsafe {
            sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), name.as_ptr(), partition)
        };
        let Some(source) = NonNull::new(source) else { return };
        if let Some(old) = self.forwarded.insert((topic.to_owned(), partition), source) {
            // SAFETY: a live reference of ours, given up here.
            unsafe { sys::rd_kafka_queue_destroy(old.as_ptr()) }
        }
        // SAFETY: both queues are alive; librdkafka keeps its own reference to the target.
        unsafe { sys::rd_kafka_queue_forward(source.as_ptr(), self.queue.as_ptr()) }
        self.wake.ring();
    }

    /// Leads all partitions here again. librdkafka ends a forwarding when it stops a partition, which it does in a thread of
    /// its own, perhaps after the partition was started again; what arrives then stands in the partition's own queue,
    /// which nobody looks at, until it is led on.
    fn lead_all(&mut self) {
        if self.led_at.elapsed() >= LEAD {
            self.led_at = Instant::now();
            for source in self.forwarded.values() {
                // SAFETY: both queues are alive; librdkafka keeps its own reference to the target.
                unsafe { sys::rd_kafka_queue_forward(source.as_ptr(), self.queue.as_ptr()) }
            }
        }
    }

    /// The offset that comes next after what was taken of a partition.
    pub(super) fn next_offset(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    /// The partition is read from `offset` now.
    pub(super) fn reads_from(&mut self, partition: i32, offset: i64) {
        self.next.insert(partition, offset);
    }

    /// What the last record taken tells of the broker's clock, once.
    pub(super) fn take_broker_time(&mut self) -> Option<BrokerTime> {
        self.broker_time.take()
    }

    /// A record that the broker stamped when it appended it (`LogAppendTime`) tells of its clock.
    fn observe(&mut self, message: &Message) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: reads two fields of a valid message, and writes to a local.
        let millis = unsafe { sys::rd_kafka_message_timestamp(message.raw(), &raw mut kind) };
        if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME {
            self.broker_time = Some(BrokerTime { at: Timestamp::from_millis(millis), seen: Instant::now() });
        }
    }

    /// Whether there is nothing to take right now.
    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: a live queue.
        unsafe { sys::rd_kafka_queue_length(self.queue.as_ptr()) == 0 }
    }

    /// Takes what is there, without waiting. What comes of partitions that `wanted` refuses is dropped, faults are passed to
    /// `fault`.
    pub(super) fn take(&mut self, wanted: impl Fn(i32) -> bool, mut fault: impl FnMut(Fault)) -> Batch {
        let mut messages = Vec::new();
        let mut ends = Vec::new();
        self.lead_all();
        if !self.is_empty() {
            // SAFETY: a live queue and an array of the told length; the first `count` entries are then ours to
            // free.
            let count = unsafe {
                sys::rd_kafka_consume_batch_queue(
                    self.queue.as_ptr(),
                    0,
                    self.taken.as_mut_ptr(),
                    self.taken.len(),
                )
            };
            let count = usize::try_from(count).unwrap_or(0);
            messages.reserve_exact(count);
            let mut last = None;
            let mut next = |raw: &sys::rd_kafka_message_t, offset| {
                if let Some((partition, next)) = last.replace((raw.partition, offset))
                    && partition != raw.partition
                {
                    self.next.insert(partition, next);
                }
            };
            for &message in &self.taken[..count] {
                let Some(message) = NonNull::new(message).map(Message) else { continue };
                let raw = message.raw();
                let is_end = raw.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF;
                if !is_end && raw.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    fault(Fault { partition: raw.partition, offset: raw.offset, code: raw.err.into() });
                } else if !wanted(raw.partition) {
                } else if is_end {
                    next(raw, raw.offset);
                    ends.push((raw.partition, raw.offset));
                } else {
                    next(raw, raw.offset + 1);
                    messages.push(message);
                }
            }
            self.next.extend(last);
        }
        if let Some(message) = messages.last() {
            self.observe(message);
        }
        Batch { messages, ends, _consumer: Arc::clone(&self.consumer) }
    }
}

/// How many events wait in a consumer's own queue: log lines, errors, statistics, rebalances. One `poll` serves one of them, and
/// does not show that it did when it was a log line or statistics.
pub(super) fn events_waiting(consumer: &StatefulConsumer) -> usize {
    // SAFETY: a live client. Its main queue is forwarded to the consumer's, and is counted there.
    usize::try_from(unsafe { sys::rd_kafka_outq_len(consumer.client().native_ptr()) }).unwrap_or(0)
}

impl Drop for BatchQueue {
    fn drop(&mut self) {
        // SAFETY: every pointer is a live reference of ours, destroyed once, here. Without the forwarding no
        // record comes any more; without the callback nobody has the pointer to `wake`.
        unsafe {
            for source in self.forwarded.values() {
                sys::rd_kafka_queue_forward(source.as_ptr(), ptr::null_mut());
                sys::rd_kafka_queue_destroy(source.as_ptr());
            }
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}
