//! The irreducible polynomial a repository has for programs that cut files at their content. Ours cuts none there, and `restic`
//! refuses a repository without one.

use voidvm_model::ErrorBody;

use crate::crypto::random;

const DEGREE: u32 = 53;

/// A random irreducible polynomial of degree 53 over GF(2); one in about fifty of those tried is.
pub(crate) fn generate() -> Result<u64, ErrorBody> {
    loop {
        let bits = u64::from_le_bytes(random()?);
        let polynomial = bits & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
        if irreducible(polynomial) {
            return Ok(polynomial);
        }
    }
}

/// Rabin's test. 53 is a prime: f is irreducible if it has no root, and x to the 2^53 is x modulo f.
fn irreducible(f: u64) -> bool {
    let rootless = f & 1 == 1 && f.count_ones() % 2 == 1;
    rootless && (0..DEGREE).fold(2, |power, _| multiply(power, power, f)) == 2
}

fn multiply(mut a: u64, mut b: u64, f: u64) -> u64 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a >> DEGREE & 1 == 1 {
            a ^= f;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_irreducible_polynomials_from_others() {
        // The one of restic's documents, and its neighbours.
        assert!(irreducible(0x003d_a335_8b4d_c173));
        assert!(!irreducible(0x003d_a335_8b4d_c171));
        // (x^26 + x + 1) · (x^27 + x + 1): no root, and no prime.
        assert!(!irreducible(1 << 53 | 1 << 28 | 1 << 26 | 1 << 2 | 1));
        assert!(irreducible(generate().unwrap()));
    }
}
