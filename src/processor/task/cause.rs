//! What a decision names as its cause: the record, its event and its trace. Decoded once more for the few records that
//! cause one, so that the many are not kept.

use crate::codec::Decoder;
use crate::domain::limits::decision::Cause;
use crate::processor::ports::{Header, Record};

/// The cause that `record` is.
pub(super) fn cause_of(record: &Record<'_>, headers: &[Header], decoder: &mut Decoder) -> Cause {
    let event = record.value.and_then(|value| decoder.usage(value).ok());
    let own = event.as_ref().and_then(|event| event.trace_id()).map(str::to_owned);
    Cause {
        record: Some((record.partition, record.offset)),
        event_id: event.as_ref().map(|event| event.id().to_owned()),
        trace_id: own.or_else(|| traced(headers)),
        policy_offset: None,
    }
}

/// The trace id in the header `traceparent` (W3C Trace Context: version, trace id, parent id, flags).
fn traced(headers: &[Header]) -> Option<String> {
    let (_, value) = headers.iter().find(|(name, _)| name == "traceparent")?;
    let trace = std::str::from_utf8(value).ok()?.split('-').nth(1)?;
    (trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| trace.to_owned())
}
