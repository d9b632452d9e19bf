//! The fields of a line as they come, each read by itself: one of an unexpected type spoils no
//! other.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::lenient::{Content as LenientContent, Lenient};
use super::mend::from_json;

pub(super) type Raw<'a> = Option<&'a RawValue>;
pub(super) type Content<'a> = LenientContent<'a, WireBlock<'a>>;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) subtype: Raw<'a>,
    #[serde(borrow)]
    pub(super) session_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) parent_tool_use_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) uuid: Raw<'a>,
    #[serde(borrow, rename = "isReplay")]
    pub(super) is_replay: Raw<'a>,
    #[serde(borrow)]
    pub(super) model: Raw<'a>,
    #[serde(borrow)]
    pub(super) message: Lenient<WireMessage<'a>>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
    #[serde(borrow)]
    pub(super) retry_delay_ms: Raw<'a>,
    #[serde(borrow)]
    pub(super) rate_limit_info: Raw<'a>,
    #[serde(borrow)]
    pub(super) task_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) patch: Raw<'a>,
    #[serde(borrow)]
    pub(super) status: Raw<'a>,
    #[serde(borrow)]
    pub(super) request_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) request: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_error: Raw<'a>,
    #[serde(borrow)]
    pub(super) api_error_status: Raw<'a>,
    #[serde(borrow)]
    pub(super) terminal_reason: Raw<'a>,
    #[serde(borrow)]
    pub(super) result: Raw<'a>,
    #[serde(borrow)]
    pub(super) errors: Raw<'a>,
    #[serde(borrow)]
    pub(super) num_turns: Raw<'a>,
    #[serde(borrow)]
    pub(super) duration_ms: Raw<'a>,
    #[serde(borrow)]
    pub(super) total_cost_usd: Raw<'a>,
    #[serde(borrow)]
    pub(super) permission_denials: Raw<'a>,
    #[serde(borrow)]
    pub(super) structured_output: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) origin: Raw<'a>,
    #[serde(borrow)]
    pub(super) local_command: Raw<'a>,
    #[serde(borrow)]
    pub(super) local_command_outcome: Raw<'a>,
    #[serde(borrow)]
    pub(super) model_usage_since_last_result: Raw<'a>,
    #[serde(borrow)]
    pub(super) error_status: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_use_result: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_result_meta: Raw<'a>,
    #[serde(borrow)]
    pub(super) tasks: Raw<'a>,
    #[serde(borrow)]
    pub(super) task_type: Raw<'a>,
    #[serde(borrow)]
    pub(super) description: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_backgrounded: Raw<'a>,
    #[serde(borrow)]
    pub(super) state: Raw<'a>,
    #[serde(borrow)]
    pub(super) command_uuid: Raw<'a>,
    #[serde(borrow)]
    pub(super) wakeup_source: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_name: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_use_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) prevent_continuation: Raw<'a>,
    #[serde(borrow)]
    pub(super) mcp_servers: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireTask<'a> {
    #[serde(borrow)]
    pub(super) task_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) task_type: Raw<'a>,
    #[serde(borrow)]
    pub(super) description: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireServer<'a> {
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) status: Raw<'a>,
}

/// What a tool gave back beside its text, as far as scheduled work is concerned.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireSchedule<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow, rename = "scheduledFor")]
    pub(super) scheduled_for: Raw<'a>,
    #[serde(borrow)]
    pub(super) stopped: Raw<'a>,
    #[serde(borrow, rename = "nextFireAt")]
    pub(super) next_fire_at: Raw<'a>,
    #[serde(borrow)]
    pub(super) recurring: Raw<'a>,
    #[serde(borrow)]
    pub(super) jobs: Raw<'a>,
}

/// One element of `tool_result_meta`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireResultMeta<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) permission_decision: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireDecision<'a> {
    #[serde(borrow)]
    pub(super) decision: Raw<'a>,
    #[serde(borrow)]
    pub(super) kind: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage<'a> {
    #[serde(borrow)]
    pub(super) input_tokens: Raw<'a>,
    #[serde(borrow)]
    pub(super) output_tokens: Raw<'a>,
    #[serde(borrow, rename = "costUSD")]
    pub(super) cost_usd: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireMessage<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) model: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Content<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireBlock<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_use_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) is_error: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireRequest<'a> {
    #[serde(borrow)]
    pub(super) subtype: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_name: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_use_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WireStatus<'a> {
    #[serde(borrow)]
    pub(super) status: Raw<'a>,
    #[serde(borrow, rename = "resetsAt")]
    pub(super) resets_at: Raw<'a>,
    #[serde(borrow, rename = "rateLimitType")]
    pub(super) limit_type: Raw<'a>,
}

#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The value of a field, or `None` if it is absent or of another type.
pub(super) fn get<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// The same of one that holds text, which need not be whole.
pub(super) fn owned<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    from_json(raw?.get()).ok()
}

pub(super) fn text<'a>(raw: Raw<'a>) -> Option<Cow<'a, str>> {
    get::<Text<'a>>(raw).map(|text| text.0).or_else(|| owned(raw).map(Cow::Owned))
}

pub(super) fn string(raw: Raw<'_>) -> Option<String> {
    text(raw).map(Cow::into_owned)
}

/// What an array consists of; of one that was too long, the last is `null`.
pub(super) fn items<'a>(raw: Raw<'a>) -> Vec<&'a RawValue> {
    get(raw).unwrap_or_default()
}

pub(super) fn is_array(raw: &RawValue) -> bool {
    raw.get().starts_with('[')
}
