//! Pseudo-random choices that a run can repeat.

/// Pseudo-random numbers that are the same for a seed (xorshift64*, Vigna 2016).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// Returns the seed of a random test: the number in an environment variable, the same one for all
/// runs if `CI` is set, else a new one. It is printed when the test fails.
#[allow(clippy::print_stdout, reason = "the harness shows it if the test fails")]
pub(crate) fn seed(variable: &str) -> u64 {
    let is_ci = std::env::var_os("CI").is_some();
    let default = if is_ci { 7920 } else { u64::from(std::process::id()) * 7919 + 1 };
    let seed = number(variable, default);
    println!("To repeat these choices, set {variable}={seed}.");
    seed
}

/// The number in an environment variable, such as the seed or the length of a run.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
