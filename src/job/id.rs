//! Job ids, which are also the names of job directories.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Timestamp;

/// Characters of a session id in the job id that is made of it.
const MAX_SLUG_CHARS: usize = 40;
/// Bytes of the session id's hash in that job id.
const HASH_BYTES: usize = 8;

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

    /// Returns an id made of the time, in UTC to the millisecond, and `random`. Such ids sort by
    /// time; for example `20261120-214512-118-7f3a`.
    pub fn generated(now: Timestamp, random: u16) -> Self {
        Self(format!("{}-{random:04x}", now.compact()))
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
    fn generated_ids_are_valid_and_sort_by_time() {
        let at = |ms| Timestamp::from_epoch_ms(ms).unwrap();
        let earlier = JobId::generated(at(1_795_204_010_508), 0xffff);
        let later = JobId::generated(at(1_795_204_010_509), 0);
        assert!(earlier < later, "{earlier} {later}");
        assert_eq!(JobId::parse(earlier.as_str()), Ok(earlier));
    }
}
