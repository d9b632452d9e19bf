//! Records that this program never wrote: mutated ones and noise.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const ODD: [&str; 14] = [
    "null",
    "true",
    "-1",
    "1e999",
    "4294967296",
    "99999999999999999999",
    "\"\"",
    "[]",
    "{}",
    "\"running\"",
    "\"../../etc\"",
    "\"\\ud800\"",
    "\"9999-99-99T99:99:99Z\"",
    "[[[[[[[[]]]]]]]]",
];

fn records() -> impl Strategy<Value = Vec<u8>> {
    let ours = || {
        let text = include_str!("../../../tests/fixtures/meta-v1.json").trim().to_owned();
        let mut live = record("a");
        live.worker.boot_id = Some("x".to_owned());
        vec![text, serde_json::to_string(&live).unwrap()]
    };
    let replaced = (select(ours()), vec((any::<Index>(), select(&ODD[..])), 1..6)).prop_map(
        |(mut text, changes)| {
            for (at, odd) in changes {
                let offsets: Vec<usize> = text.match_indices("\":").map(|(at, _)| at + 2).collect();
                let from = offsets[at.index(offsets.len())];
                let end = text[from..].find([',', '}']).map_or(text.len(), |n| from + n);
                text.replace_range(from..end, odd);
            }
            text.into_bytes()
        },
    );
    let flipped =
        (select(ours()), vec((any::<Index>(), any::<u8>()), 1..8)).prop_map(|(text, flips)| {
            let mut bytes = text.into_bytes();
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    let truncated = (select(ours()), any::<Index>()).prop_map(|(text, at)| {
        let at = at.index(text.len());
        text.into_bytes()[..at].to_vec()
    });
    let noise = vec(any::<u8>(), 0..200);
    let deep = (0..20_000usize).prop_map(|depth| "[".repeat(depth).into_bytes());
    prop_oneof![replaced, flipped, truncated, noise, deep]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuzz_records(text in records()) {
        let Ok(record) = decode_record(&text) else { return Ok(()) };
        // A decoded record is written so that it decodes to the same record.
        let written = serde_json::to_vec(&record).unwrap();
        if !record.is_of_node_skill() {
            prop_assert_eq!(&decode_record(&written).unwrap(), &record);
        }
        // The id names a path in the jobs directory and nowhere else.
        let store = Store::at(PathBuf::from("/jobs"));
        let job = store.job(&record.job_id);
        prop_assert_eq!(job.path().parent(), Some(Path::new("/jobs")));
        let _ = record.is_recoverable();
        let verdict = record.lost_verdict(Some("boot"));
        prop_assert!(verdict.reason().is_some());
    }

    #[test]
    fn fuzz_ids(text in "\\PC{0,140}|[./\\\\~%a-z0-9 -]{0,20}") {
        if let Ok(id) = JobId::parse(&text) {
            let job = Store::at(PathBuf::from("/jobs")).job(&id);
            prop_assert_eq!(job.path().parent(), Some(Path::new("/jobs")));
            prop_assert!(!id.as_str().starts_with(['.', '-']));
        }
    }
}
