//! When a notification that was not delivered is tried again.

use std::time::Duration;

use crate::job::Timestamp;

/// Retries of a command of `--on-event`, which the user can mend.
const COMMAND_RETRIES: u32 = 3;
/// Time from the event for which a gateway is tried: it is away for half a minute when it restarts.
const GATEWAY_LIMIT: Duration = Duration::from_secs(15 * 60);
const MAX_PAUSE: Duration = Duration::from_secs(60);

fn is_command(recipient: &str) -> bool {
    recipient.starts_with("command ")
}

/// Returns the time since the event. It is at least `tried`, the time since the first try of this
/// process: the clock may have been set back.
pub(super) fn age(due_at: Option<Timestamp>, now: Timestamp, tried: Duration) -> Duration {
    let age = due_at.map_or(Duration::ZERO, |at| now.since(at));
    age.max(tried)
}

/// Returns the pause before the next try after so many failed ones; `None` if there is no other.
/// `age` is the time since the event.
pub(super) fn pause(recipient: &str, tries: u32, age: Duration) -> Option<Duration> {
    let doublings = tries.saturating_sub(1).min(6);
    let pause = Duration::from_secs(1 << doublings).min(MAX_PAUSE);
    if is_command(recipient) {
        return if tries <= COMMAND_RETRIES { Some(pause) } else { None };
    }
    // The last try is made when the time is over.
    let left = GATEWAY_LIMIT.saturating_sub(age);
    if left.is_zero() { None } else { Some(pause.min(left)) }
}

/// Whether a notification is given up whose last try was interrupted: its recipient may kill the
/// notifier. A gateway is tried once more, because the machine may have been restarted.
pub(super) fn is_given_up(recipient: &str, tries: u32, age: Duration) -> bool {
    tries > COMMAND_RETRIES && pause(recipient, tries, age).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_young() {
        let now = crate::clock::now();
        let seconds = Duration::from_secs;
        for (due_at, expected) in [
            (None, 20),
            (Some(now.before(seconds(30))), 30),
            (Some(now.before(seconds(5))), 20),
            (Some(now.after(seconds(3600))), 20),
        ] {
            assert_eq!(age(due_at, now, seconds(20)), seconds(expected), "{due_at:?}");
        }
    }

    #[test]
    fn tries_a_command_four_times() {
        let old = 2 * GATEWAY_LIMIT;
        for (tries, seconds) in [(1, Some(1)), (2, Some(2)), (3, Some(4)), (4, None), (99, None)] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(pause("command 1", tries, old), expected);
            assert_eq!(is_given_up("command 1", tries, old), expected.is_none());
        }
    }

    #[test]
    fn tries_a_gateway_for_fifteen_minutes() {
        for recipient in ["wake", "notify 2"] {
            let (mut age, mut pauses) = (Duration::ZERO, Vec::new());
            for tries in 1.. {
                let Some(next) = pause(recipient, tries, age) else { break };
                pauses.push(next.as_secs());
                age += next;
            }
            assert_eq!(age, GATEWAY_LIMIT);
            assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
            assert!(pauses.iter().all(|pause| (1..=60).contains(pause)), "{pauses:?}");
            let late = GATEWAY_LIMIT + Duration::from_secs(1);
            assert_eq!(pause(recipient, 1, late), None);
            assert!(!is_given_up(recipient, 3, late), "the machine was off");
            assert!(is_given_up(recipient, 4, late) && !is_given_up(recipient, 99, age / 2));
        }
    }
}
