//! What the worker writes: the record, events and warnings.

use super::*;

#[test]
fn saves_progress_once_a_second_and_never_idle() {
    let mut rig = Rig::launched(Spec::default());
    rig.hear(INIT);
    let mut saves = 0;
    for _ in 0..500 {
        rig.hear(TEXT);
        saves += rig.effects.iter().filter(|effect| **effect == Effect::Save).count();
        rig.now.mono += Duration::from_millis(10);
    }
    assert!((4..=6).contains(&saves), "{saves} in five seconds");
    rig.pass(2);
    assert_eq!(rig.supervisor.deadline(), None, "nothing to wake up for");
}

#[test]
fn events_are_numbered_without_a_gap() {
    let mut rig = Rig::new(Spec::default());
    let mut numbers = Vec::new();
    let mut collect = |effects: &[Effect]| {
        numbers.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Log(entry) => Some(entry.seq),
            _ => None,
        }));
    };
    for input in [launched(78), Input::KillRequested, Input::OutputClosed] {
        collect(&rig.take(input).effects);
    }
    rig.conclude(&Evidence::default());
    collect(&rig.effects);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(rig.supervisor.record().last_seq, numbers.len() as u64);
}

#[test]
fn warns_of_failed_writes() {
    let mut rig = Rig::launched(Spec::default());
    rig.take(Input::WriteFailed { file: "output.log", error: "no space left".to_owned() });
    rig.hear(INIT).hear(OK);
    let (verdict, outcome) = rig.ends(0);
    assert_eq!(verdict, COMPLETED);
    assert_eq!(outcome.warnings, ["output.log is incomplete: no space left"]);
}
