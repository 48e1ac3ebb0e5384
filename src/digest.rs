//! What stands in the store instead of a token: HMAC-SHA-256(pepper, SHA-256(token)).
//!
//! The pepper is 32 random bytes that the database never holds, so a stolen database can be neither used nor tested.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags};
use sha2::block_api::compress256;
use siphasher::sip128::{Hash128, SipHasher13};
use zeroize::Zeroize;

use crate::key::PepperId;

/// What the fingerprint is the MAC of.
const FINGERPRINT_LABEL: &[u8] = b"doorward pepper fingerprint v1";
/// What the history's chain key is the MAC of.
const CHAIN_LABEL: &[u8] = b"doorward history chain v1";
/// Bytes of a SHA-256 block.
const BLOCK_BYTES: usize = 64;
/// The initial state of SHA-256 (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// A pepper, as the two states of SHA-256 that HMAC (RFC 2104) begins with: the key itself is not kept, and a digest costs two compressions.
///
/// The states are in pages of their own, and clones share them: wherever a pepper is moved, no copy of its secret stays behind.
#[derive(Clone)]
pub struct Pepper {
    states: NonNull<States>,
    page: Arc<Page>,
}

// SAFETY: the states are written before there is a pepper, and only read from then on; the page lives as long as any clone.
unsafe impl Send for Pepper {}
// SAFETY: as above.
unsafe impl Sync for Pepper {}

#[derive(Zeroize)]
struct States {
    inner: [u32; 8],
    outer: [u32; 8],
}

/// Memory for the states alone: locked, left out of dumps, wiped at its end.
struct Page {
    memory: NonNull<States>,
    bytes: usize,
    /// Why it is not locked, or not left out of dumps.
    unguarded: Option<rustix::io::Errno>,
}

// SAFETY: it is memory of the process, not of a thread; after `Page::with` nobody writes to it before `drop`.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn with(fill: impl FnOnce(&mut States)) -> Page {
        let bytes = size_of::<States>().next_multiple_of(rustix::param::page_size());
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: new pages, wherever the kernel puts them.
        let mapped = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, access, flags) };
        let memory = mapped.ok().and_then(|start| NonNull::new(start.cast::<States>()));
        // As where any other memory cannot be had.
        let mut memory = memory.unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<States>()));
        // SAFETY: the pages were just mapped, and neither call changes what is in them.
        let guarded = unsafe {
            let dumped = rustix::mm::madvise(memory.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxDontDump);
            rustix::mm::mlock(memory.as_ptr().cast(), bytes).and(dumped)
        };
        // SAFETY: the kernel's pages are zeros, which are states; they begin with a page, so they are aligned; nobody else has them.
        fill(unsafe { memory.as_mut() });
        Page { memory, bytes, unguarded: guarded.err() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the last pepper that read them is gone, and nothing reads or writes them afterwards.
        unsafe {
            self.memory.as_mut().zeroize();
            let _ = rustix::mm::munmap(self.memory.as_ptr().cast(), self.bytes);
        }
    }
}

/// The peppers of a store: the one that new secrets are made under, and the one before it while secrets still need it.
#[derive(Debug, Clone)]
pub struct Peppers {
    /// New secrets are made under this one.
    pub current: Pepper,
    /// Tried when the current one finds no secret.
    pub previous: Option<Pepper>,
}

impl Peppers {
    /// Whether all of them are kept out of the swap and of any dump of the process.
    ///
    /// # Errors
    /// The limit on locked memory (`LimitMEMLOCK=`) does not allow a page for each.
    pub fn guarded(&self) -> std::io::Result<()> {
        let peppers = [Some(&self.current), self.previous.as_ref()];
        peppers.into_iter().flatten().find_map(|pepper| pepper.page.unguarded).map_or(Ok(()), |errno| Err(errno.into()))
    }
}

impl Pepper {
    /// Takes the pepper's 32 bytes and wipes this copy of them.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Pepper {
        let mut inner_block = [0x36u8; BLOCK_BYTES];
        let mut outer_block = [0x5cu8; BLOCK_BYTES];
        for (i, byte) in bytes.iter().enumerate() {
            inner_block[i] ^= byte;
            outer_block[i] ^= byte;
        }
        let page = Page::with(|states| {
            *states = States { inner: INITIAL, outer: INITIAL };
            compress256(&mut states.inner, std::slice::from_ref(&inner_block));
            compress256(&mut states.outer, std::slice::from_ref(&outer_block));
        });
        inner_block.zeroize();
        outer_block.zeroize();
        bytes.zeroize();
        Pepper { states: page.memory, page: Arc::new(page) }
    }

    #[inline]
    fn states(&self) -> &States {
        // SAFETY: filled before there was a pepper, not written since, and there until the last clone is gone.
        unsafe { self.states.as_ref() }
    }

    /// Names the pepper without telling it: the first 8 bytes of the fingerprint.
    pub fn id(&self) -> PepperId {
        let fingerprint = self.fingerprint();
        PepperId(std::array::from_fn(|i| fingerprint[i]))
    }

    /// Tells two peppers apart: HMAC-SHA-256(pepper, "doorward pepper fingerprint v1"). Not secret.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.mac(FINGERPRINT_LABEL)
    }

    /// The key of the history's chain: HMAC-SHA-256(pepper, "doorward history chain v1"). Secret.
    pub fn chain_key(&self) -> [u8; 32] {
        self.mac(CHAIN_LABEL)
    }

    /// The digest of a token whose SHA-256 is known.
    pub fn digest(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.mac(sha256)
    }

    /// The digest of a token.
    pub fn digest_token(&self, token: &[u8]) -> [u8; 32] {
        self.digest(&token_sha256(token))
    }

    /// HMAC-SHA-256 of a message that is shorter than a block.
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let States { inner, outer } = self.states();
        let hashed = state_bytes(&finish(*inner, 1, message));
        state_bytes(&finish(*outer, 1, &hashed))
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.id())
    }
}

/// Recognises tokens that this process has verified before: SipHash-1-3 with 128 bits of output (Aumasson and Bernstein, 'SipHash: a fast
/// short-input PRF', 2012) under a random key that never leaves the process. It takes a fifth of the digest's time, and says nothing about a token
/// to whoever does not have that key; what is stored stays the digest.
pub struct Recogniser(SipHasher13);

impl Recogniser {
    /// With a key of its own.
    pub fn new() -> Recogniser {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the kernel has random numbers");
        Recogniser::with_key(&key)
    }

    /// With a key that is given: for measurements that repeat, never for tokens that are secret.
    pub fn with_key(key: &[u8; 16]) -> Recogniser {
        Recogniser(SipHasher13::new_with_key(key))
    }

    /// What the token is recognised by.
    #[inline]
    pub fn tag(&self, token: &[u8]) -> [u64; 2] {
        let Hash128 { h1, h2 } = self.0.hash(token);
        [h1, h2]
    }
}

impl Default for Recogniser {
    fn default() -> Recogniser {
        Recogniser::new()
    }
}

/// The SHA-256 of a token, from which its digest is made. No copy of the token is left on the stack, as one would be wherever a hasher is moved.
pub fn token_sha256(token: &[u8]) -> [u8; 32] {
    let (blocks, rest) = token.as_chunks();
    let mut state = INITIAL;
    compress256(&mut state, blocks);
    state_bytes(&finish(state, blocks.len(), rest))
}

/// The last compressions of a SHA-256 that has hashed so many blocks before: the rest of the message, a one bit, zeros, the length in bits (FIPS 180-4, 5.1.1).
fn finish(mut state: [u32; 8], blocks: usize, rest: &[u8]) -> [u32; 8] {
    let mut padded = [[0u8; BLOCK_BYTES]; 2];
    let used = if rest.len() < BLOCK_BYTES - size_of::<u64>() { 1 } else { 2 };
    let bytes = padded[..used].as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    let bits = ((blocks * BLOCK_BYTES + rest.len()) * 8) as u64;
    let (_, length) = bytes.split_last_chunk_mut().expect("a block is longer than its length");
    *length = bits.to_be_bytes();
    compress256(&mut state, &padded[..used]);
    padded[..used].fill([0; BLOCK_BYTES]);
    // Somebody may look at it: so it is written.
    std::hint::black_box(&padded);
    state
}

fn state_bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Made with Python: `hmac.new(bytes(range(32)), message, hashlib.sha256).hexdigest()`.
    #[test]
    fn macs_are_those_of_hmac_sha_256() {
        let pepper = Pepper::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(hex(&pepper.fingerprint()), "5b987f715e558ed2e2fbc13b2d7ae205f0440957e78e7525a99c8995e2ead142");
        assert_eq!(pepper.id().to_string(), "5b987f715e558ed2");
        assert_eq!(hex(&pepper.chain_key()), "ba637bbf1647de874641f8401bde80dfbf8830b66dc0de4c0aeff2fe03a37015");
        assert_eq!(hex(&token_sha256(b"dw_example")), "0de2e4ea5a7c8455ae3e4ed1b0265430fd1ac00166fe86175fb55d79e176db0f");
        assert_eq!(hex(&pepper.digest_token(b"dw_example")), "bb8191bc1d21213551aee87dc845763537502f7f9a9997cee67f135d1de36469");
    }

    /// The midstates agree with the general implementation for keys that are not a pattern.
    #[test]
    fn random_peppers_agree_with_the_hmac_crate() {
        use hmac::{Hmac, KeyInit, Mac};
        for _ in 0..100 {
            let mut bytes = [0u8; 32];
            getrandom::fill(&mut bytes).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&bytes).unwrap();
            mac.update(&token_sha256(&bytes[..7]));
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            assert_eq!(Pepper::from_bytes(bytes).digest_token(&bytes[..7]), expected);
        }
    }

    #[test]
    fn the_sha_256_of_a_token_of_any_length_is_that_of_the_sha2_crate() {
        use sha2::Digest;
        let token: Vec<u8> = (0..300).map(|byte| byte as u8).collect();
        for length in 0..token.len() {
            assert_eq!(token_sha256(&token[..length])[..], Sha256::digest(&token[..length])[..], "{length}");
        }
    }

    #[test]
    fn debug_shows_only_the_id() {
        let pepper = Pepper::from_bytes([7; 32]);
        let id = pepper.id();
        let shown = format!("{:?}", Peppers { current: pepper.clone(), previous: None });
        assert_eq!(shown, format!("Peppers {{ current: Pepper({id}), previous: None }}"));
    }
}
