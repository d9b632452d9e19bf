//! How long a job of the fake sleeps: different for each job, and known beforehand.

/// Milliseconds from a tenth of `max` to `max`, determined by the job's id (FNV-1a).
pub(crate) fn nap_of(job: &str, max: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = job.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    max / 10 + (hash >> 20) % (max - max / 10 + 1)
}
