//! The lines of the file of summaries.

use super::{EndedJob, LineRange, Stamp, StampedFile};
use crate::job::{JobId, Status, Summary, Timestamp};

/// A line of the cache: a checksum of the rest, the fields below, and the summary as JSON.
pub(super) struct CacheLine<'a> {
    pub(super) id: &'a str,
    pub(super) stamp: Stamp,
    status: Status,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    has_recipients: bool,
}

impl<'a> CacheLine<'a> {
    pub(super) fn new(id: &'a JobId, stamp: Stamp, summary: &Summary) -> Self {
        Self {
            id: id.as_str(),
            stamp,
            status: summary.status,
            started_at: summary.started_at,
            ended_at: summary.ended_at,
            has_recipients: summary.has_recipients(),
        }
    }

    pub(super) fn ended(&self, line: LineRange) -> EndedJob {
        let Self { status, started_at, ended_at, has_recipients, .. } = *self;
        EndedJob { status, started_at, ended_at, has_recipients, line }
    }

    pub(super) fn to_text(&self, json: &str) -> String {
        let Stamp { file, number, size, modified, changed } = self.stamp;
        let file = u8::from(file == StampedFile::Epochs);
        let rest = format!(
            "{} {file} {number} {size} {modified} {changed} {} {} {} {} {json}\n",
            self.id,
            self.status,
            time_to_text(self.started_at),
            time_to_text(self.ended_at),
            u8::from(self.has_recipients),
        );
        format!("{:016x} {rest}", checksum(rest.as_bytes()))
    }

    /// Decodes a line; returns `None` if it is torn or was changed.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (sum, rest) = line.split_at_checked(17)?;
        let sum = u64::from_str_radix(str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
        if sum != checksum(rest) || !rest.ends_with(b"\n") {
            return None;
        }
        let end = memchr::memchr(b'{', rest)?;
        let mut fields = SpaceSeparated(str::from_utf8(&rest[..end]).ok()?);
        Some(Self {
            id: fields.next()?,
            stamp: Stamp {
                file: match fields.next()? {
                    "0" => StampedFile::Record,
                    "1" => StampedFile::Epochs,
                    _ => return None,
                },
                number: fields.next()?.parse().ok()?,
                size: fields.next()?.parse().ok()?,
                modified: fields.next()?.parse().ok()?,
                changed: fields.next()?.parse().ok()?,
            },
            status: match fields.next()? {
                "completed" => Status::Completed,
                "failed" => Status::Failed,
                "killed" => Status::Killed,
                _ => return None,
            },
            started_at: parse_time(fields.next()?)?,
            ended_at: parse_time(fields.next()?)?,
            has_recipients: fields.next()? != "0",
        })
    }
}

fn time_to_text(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => at.epoch_ms().to_string(),
        None => "-".to_owned(),
    }
}

/// Decodes a time; the inner `None` is a time that is not known.
fn parse_time(field: &str) -> Option<Option<Timestamp>> {
    if field == "-" {
        return Some(None);
    }
    Some(Timestamp::from_epoch_ms(field.parse().ok()?))
}

/// Iterates over the fields of a text; each ends in a space. Cheaper than `str::split` for such short
/// fields.
struct SpaceSeparated<'a>(&'a str);

impl<'a> Iterator for SpaceSeparated<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| byte == b' ')?;
        let (field, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(field)
    }
}

/// Checksum that detects a line that is torn or was changed. Each step is reversible, so a change
/// within eight bytes always changes the sum.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut sum = bytes.len() as u64;
    for word in words {
        sum = mix(sum, *word);
    }
    mix(sum, last)
}

fn mix(sum: u64, word: [u8; 8]) -> u64 {
    (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
