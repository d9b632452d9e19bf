//! Job ids, which are also the names of job directories.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Timestamp;

/// Characters of a session id in the job id that is made of it.
const MAX_SLUG_CHARS: usize = 40;
/// Bytes of the session id's hash in that job id.
const HASH_BYTES: usize = 8;

const DAY_MS: i64 = 86_400_000;
/// Parts of a day that generated ids distinguish, of 20.6 ms each.
const SLOTS_PER_DAY: i64 = 1 << 22;
/// Bits of the slot that each letter of the word stands for, and how far they are shifted.
const LETTER_BITS: [(u32, u32); 7] = [(4, 18), (2, 16), (4, 12), (2, 10), (4, 6), (2, 4), (4, 0)];
// In the order of ASCII, so that words sort like slots.
const CONSONANTS: &[u8; 16] = b"bdhjklmnprstvwyz";
const VOWELS: &[u8; 4] = b"aiou";

/// A job's id: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
///
/// The pattern makes it safe as a file name: it has no separator, is not `.` or `..`, and does not
/// begin with a dot (a hidden file) or a dash (an option).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The text is not a valid job id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id is a letter or digit, then at most 127 letters, digits, '.', '_' or '-'")]
pub struct InvalidJobId;

impl JobId {
    /// Checks `text` against the pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidJobId> {
        let bytes = text.as_bytes();
        let is_valid = (1..=128).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidJobId) }
    }

    /// Returns an id made of the day in UTC and a word for the time of day, for example
    /// `261126-popokok`. Such ids sort by time, to 20.6 ms; `step` selects a later one, for a time
    /// whose id is in use.
    pub fn generated(now: Timestamp, step: u32) -> Self {
        let (day, time) = (now.epoch_ms().div_euclid(DAY_MS), now.epoch_ms().rem_euclid(DAY_MS));
        let slot = time * SLOTS_PER_DAY / DAY_MS + i64::from(step);
        let (day, slot) = (day + slot / SLOTS_PER_DAY, slot % SLOTS_PER_DAY);
        let date = Timestamp::from_epoch_ms(day * DAY_MS).unwrap_or(now).day().replace('-', "");
        let short = date.strip_prefix("20").unwrap_or(&date);
        Self(format!("{short}-{}", word_of_slot(slot)))
    }

    /// Returns the word of a generated id, by which people can name the job; `None` for other ids.
    pub fn word(&self) -> Option<&str> {
        let (date, word) = self.0.split_once('-')?;
        let is_date = date.len() == 6 && date.bytes().all(|byte| byte.is_ascii_digit());
        let is_letter = |byte| CONSONANTS.contains(&byte) || VOWELS.contains(&byte);
        let is_word = word.len() == LETTER_BITS.len() && word.bytes().all(is_letter);
        if is_date && is_word { Some(word) } else { None }
    }

    /// Returns the id of the job of a session of an embedding program. A session id that is a valid
    /// job id stays as it is; any other becomes its readable part and a hash of the whole, for
    /// example `chat-42-cadd188dce26b4be`. The same session has the same job in every version of
    /// this program, so nothing about this may change.
    pub fn for_session(session_id: &str) -> Result<Self, InvalidJobId> {
        if session_id.is_empty() {
            return Err(InvalidJobId);
        }
        if let Ok(id) = Self::parse(session_id) {
            return Ok(id);
        }
        let mut slug = String::new();
        for c in session_id.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
            if slug.len() == MAX_SLUG_CHARS {
                break;
            }
        }
        let slug = match slug.trim_end_matches('-') {
            "" => "session",
            slug => slug,
        };
        let hash = &Sha256::digest(session_id)[..HASH_BYTES];
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{slug}-{hash}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the word for a part of the day: consonants and vowels in turn.
fn word_of_slot(slot: i64) -> String {
    let mut word = String::new();
    for (bits, shift) in LETTER_BITS {
        let letters: &[u8] = if bits == 4 { CONSONANTS } else { VOWELS };
        let index = (slot >> shift) & ((1 << bits) - 1);
        word.push(char::from(letters[index as usize]));
    }
    word
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        Self::parse(&text)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_pattern() {
        let longest = "a".repeat(128);
        for good in ["a", "7", "fix-login", "A.b_c-d", "x..y", longest.as_str()] {
            assert!(JobId::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in ["", ".", "..", "-a", ".a", "_a", "a/b", "a b", "ä", "a\n", "a\0", &too_long] {
            assert_eq!(JobId::parse(bad), Err(InvalidJobId), "{bad:?}");
        }
    }

    #[test]
    fn a_session_has_the_same_job_in_every_version() {
        let long = "a".repeat(129);
        for (session_id, job_id) in [
            ("s", "s"),
            ("A.b_c-d", "A.b_c-d"),
            ("chat 42", "chat-42-cadd188dce26b4be"),
            ("agent:main/ü", "agent-main-c623155f941309ac"),
            ("../x", "x-d6b96a97d147daaa"),
            ("ü", "session-607474ca475a9724"),
            (&long, &format!("{}-c12cb024a2e5551c", "a".repeat(40))),
        ] {
            let id = JobId::for_session(session_id).unwrap();
            assert_eq!(id.as_str(), job_id, "{session_id}");
            assert_eq!(JobId::parse(job_id), Ok(id));
        }
        assert_eq!(JobId::for_session(""), Err(InvalidJobId));
    }

    #[test]
    fn generated_ids_have_a_date_and_a_word() {
        for (time, step, expected) in [
            ("2026-11-26T00:00:00.000Z", 0, "261126-bababab"),
            ("2026-11-26T00:00:00.020Z", 0, "261126-bababab"),
            ("2026-11-26T00:00:00.021Z", 0, "261126-bababad"),
            ("2026-11-26T00:00:00.000Z", 1, "261126-bababad"),
            ("2026-11-26T12:57:03.204Z", 0, "261126-popokok"),
            ("2026-11-26T23:59:59.999Z", 0, "261126-zuzuzuz"),
            ("2026-12-31T23:59:59.999Z", 2, "270101-bababad"),
            ("1999-12-31T23:59:59.999Z", 0, "19991231-zuzuzuz"),
            ("1999-12-31T23:59:59.999Z", 1, "000101-bababab"),
            ("2099-12-31T12:00:00.000Z", 0, "991231-pababab"),
            ("2100-01-01T12:00:00.000Z", 0, "21000101-pababab"),
        ] {
            let id = JobId::generated(Timestamp::parse(time).unwrap(), step);
            assert_eq!(id.as_str(), expected, "{time} {step}");
            assert_eq!(JobId::parse(expected), Ok(id));
        }
    }

    #[test]
    fn ten_thousand_generated_ids_sort_by_time() {
        let at = |ms| Timestamp::from_epoch_ms(ms).unwrap();
        // More than two days, with steps of 21 ms and more.
        let mut time = 1_795_204_010_508;
        let mut last = JobId::parse("20261120-214512-118-7f3a").unwrap();
        for n in 0..10_000 {
            let id = JobId::generated(at(time), 0);
            assert!(last < id, "{last} {id}");
            assert!(id < JobId::generated(at(time), 1));
            last = id;
            time += 21 + n * 4;
        }
    }

    #[test]
    fn only_a_generated_id_has_a_word() {
        for (id, word) in [
            ("261126-popokok", Some("popokok")),
            ("261126-popoko", None),
            ("261126-popokoc", None),
            ("19991231-zuzuzuz", None),
            ("fix-popokok", None),
            ("popokok", None),
        ] {
            assert_eq!(JobId::parse(id).unwrap().word(), word, "{id}");
        }
    }
}
