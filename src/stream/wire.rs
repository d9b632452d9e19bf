//! Raw fields of a line. Each is decoded by itself, so that a field of an unexpected type spoils no
//! other. All are found in one pass over the line.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::scan::Scanner;
use crate::text::from_json;

/// JSON text of a field, which may be `null`; `None` if it is absent.
pub(super) type Raw<'a> = Option<&'a str>;

/// An object with some known fields.
pub(super) trait Fields<'a>: Default {
    /// Returns the slot of the field of this name.
    fn slot(&mut self, name: &str) -> Option<&mut Raw<'a>>;
}

/// Defines a struct of fields with their names in the stream where these differ.
macro_rules! fields {
    ($(#[$doc:meta])* $object:ident { $($field:ident $(= $name:literal)?,)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $object<'a> {
            $(pub(super) $field: Raw<'a>,)*
        }

        impl<'a> Fields<'a> for $object<'a> {
            fn slot(&mut self, name: &str) -> Option<&mut Raw<'a>> {
                match name {
                    $(field_name!($field $($name)?) => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

macro_rules! field_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

fields! {
    /// The outermost object, without its message.
    Wire {
        kind = "type",
        subtype,
        session_id,
        parent_tool_use_id,
        uuid,
        is_replay = "isReplay",
        model,
        error,
        retry_delay_ms,
        rate_limit_info,
        task_id,
        patch,
        status,
        request_id,
        request,
        is_error,
        api_error_status,
        terminal_reason,
        result,
        errors,
        num_turns,
        duration_ms,
        total_cost_usd,
        permission_denials,
        structured_output,
        usage,
        origin,
        local_command,
        local_command_outcome,
        model_usage_since_last_result,
        error_status,
        tool_use_result,
        tool_result_meta,
        output_file,
        tasks,
        task_type,
        description,
        is_backgrounded,
        state,
        command_uuid,
        wakeup_source,
        tool_name,
        tool_use_id,
        content,
        prevent_continuation,
        mcp_servers,
    }
}

fields! {
    WireTask {
        task_id,
        task_type,
        description,
    }
}

fields! {
    WireServer {
        name,
        status,
    }
}

fields! {
    /// Result of a tool, as far as it is about scheduled work.
    WireSchedule {
        id,
        scheduled_for = "scheduledFor",
        stopped,
        next_fire_at = "nextFireAt",
        recurring,
        jobs,
    }
}

fields! {
    /// One element of `tool_result_meta`.
    WireResultMeta {
        id,
        permission_decision,
    }
}

fields! {
    WireDecision {
        decision,
        kind,
    }
}

fields! {
    WireUsage {
        input_tokens,
        output_tokens,
        cost_usd = "costUSD",
    }
}

fields! {
    WireBlock {
        kind = "type",
        text,
        id,
        name,
        input,
        tool_use_id,
        is_error,
        content,
    }
}

fields! {
    WireRequest {
        subtype,
        tool_name,
        tool_use_id,
        input,
    }
}

fields! {
    WireStatus {
        status,
        resets_at = "resetsAt",
        limit_type = "rateLimitType",
    }
}

/// Message of a line; empty if it is not an object.
#[derive(Default)]
pub(super) struct WireMessage<'a> {
    pub(super) id: Raw<'a>,
    pub(super) model: Raw<'a>,
    pub(super) content: Content<'a>,
}

#[derive(Default)]
pub(super) enum Content<'a> {
    /// Its JSON text.
    Text(&'a str),
    Blocks(Vec<WireBlock<'a>>),
    #[default]
    Other,
}

/// Reads a line; `None` if it is not a JSON object or has a duplicate field.
pub(super) fn line(text: &str) -> Option<(Wire<'_>, WireMessage<'_>)> {
    let mut scanner = Scanner::new(text);
    let mut wire = Wire::default();
    let mut said = None;
    scanner.object(|scanner, name| {
        if name != "message" {
            return fill(&mut wire, scanner, name);
        }
        if said.is_some() {
            return None;
        }
        said = Some(message(scanner)?);
        Some(())
    })?;
    if scanner.is_at_end() { Some((wire, said.unwrap_or_default())) } else { None }
}

fn message<'a>(scanner: &mut Scanner<'a>) -> Option<WireMessage<'a>> {
    let mut message = WireMessage::default();
    if scanner.peek()? != b'{' {
        scanner.value()?;
        return Some(message);
    }
    let (mut id, mut model, mut said) = (None, None, None);
    scanner.object(|scanner, name| match name {
        "id" => fill_slot(&mut id, scanner),
        "model" => fill_slot(&mut model, scanner),
        "content" if said.is_some() => None,
        "content" => {
            said = Some(content(scanner)?);
            Some(())
        }
        _ => scanner.value().map(drop),
    })?;
    message = WireMessage { id, model, content: said.unwrap_or_default() };
    Some(message)
}

fn content<'a>(scanner: &mut Scanner<'a>) -> Option<Content<'a>> {
    match scanner.peek()? {
        b'"' => Some(Content::Text(scanner.value()?)),
        b'[' => {
            let mut blocks = Vec::new();
            scanner.array(|scanner| {
                let mut block = WireBlock::default();
                if scanner.peek()? == b'{' {
                    scanner.object(|scanner, name| fill(&mut block, scanner, name))?;
                } else {
                    scanner.value()?;
                }
                blocks.push(block);
                Some(())
            })?;
            Some(Content::Blocks(blocks))
        }
        _ => {
            scanner.value()?;
            Some(Content::Other)
        }
    }
}

fn fill<'a>(object: &mut impl Fields<'a>, scanner: &mut Scanner<'a>, name: &str) -> Option<()> {
    match object.slot(name) {
        Some(slot) => fill_slot(slot, scanner),
        None => scanner.value().map(drop),
    }
}

fn fill_slot<'a>(slot: &mut Raw<'a>, scanner: &mut Scanner<'a>) -> Option<()> {
    if slot.replace(scanner.value()?).is_none() { Some(()) } else { None }
}

/// Returns the fields of an object; `None` for any other value.
pub(super) fn object<'a, T: Fields<'a>>(raw: Raw<'a>) -> Option<T> {
    let mut object = T::default();
    Scanner::new(raw?).object(|scanner, name| fill(&mut object, scanner, name))?;
    Some(object)
}

/// Returns the value of a field; `None` if it is absent or of another type.
pub(super) fn get<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?).ok()
}

/// Returns an owned value of a field whose text may contain half a character.
pub(super) fn owned<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    from_json(raw?).ok()
}

pub(super) fn text<'a>(raw: Raw<'a>) -> Option<Cow<'a, str>> {
    let quoted = raw?.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', quoted.as_bytes()).is_none() {
        return Some(Cow::Borrowed(quoted));
    }
    owned(raw).map(Cow::Owned)
}

pub(super) fn string(raw: Raw<'_>) -> Option<String> {
    text(raw).map(Cow::into_owned)
}

/// Returns the elements of an array. The last one of a shortened array is `null`.
pub(super) fn items<'a>(raw: Raw<'a>) -> Vec<&'a str> {
    let items: Vec<&RawValue> = get(raw).unwrap_or_default();
    items.into_iter().map(RawValue::get).collect()
}

pub(super) fn is_array(raw: &str) -> bool {
    raw.starts_with('[')
}
