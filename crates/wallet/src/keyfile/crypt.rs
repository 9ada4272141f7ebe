//! The three encryptions that key files have had (spec chain-and-wallet §A.3). All can be read, the current one is written.
//!
//! | first bytes | since | cipher | key from the password |
//! |---|---|---|---|
//! | `$NACL` | now | XSalsa20-Poly1305 | Argon2i, 8 passes over 512 MiB |
//! | `$ANSIBLE_VAULT` | old | AES-256-CTR, HMAC-SHA256 | PBKDF2-HMAC-SHA256, 10,000 rounds |
//! | `gAAAAA` | oldest | AES-128-CBC, HMAC-SHA256 (Fernet) | PBKDF2-HMAC-SHA256, 10,000,000 rounds |
//!
//! What always holds: one derivation at a time in the whole process, so memory is bounded by 512 MiB; a tag is checked before
//! anything is decrypted; keys and plain content are overwritten. All of it blocks for seconds: an asynchronous caller gives it a thread.

use super::KeyfileError;
use crate::SecretText;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _, StreamCipher as _, block_padding::Pkcs7};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305, aead::Aead as _};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};
use zeroize::{Zeroize as _, Zeroizing};

const NACL: &[u8] = b"$NACL";
const ANSIBLE: &[u8] = b"$ANSIBLE_VAULT";
const FERNET: &[u8] = b"gAAAAA";
const NONCE_BYTES: usize = 24;

/// Salt of the current form, the same for everybody.
const NACL_SALT: [u8; 16] = [0x13, 0x71, 0x83, 0xdf, 0xf1, 0x5a, 0x09, 0xbc, 0x9c, 0x90, 0xb5, 0x51, 0x87, 0x39, 0xe9, 0xb1];
/// Salt of the oldest form, the same for everybody.
const FERNET_SALT: &[u8] = b"Iguesscyborgslikemyselfhaveatendencytobeparanoidaboutourorigins";
const FERNET_ROUNDS: u32 = 10_000_000;
const ANSIBLE_ROUNDS: u32 = 10_000;

/// How a key file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// `$NACL`.
    Nacl,
    /// `$ANSIBLE_VAULT`.
    AnsibleVault,
    /// `gAAAAA`.
    Fernet,
}

impl Encryption {
    /// The encryption that `content` begins as; `None` for a plain file.
    pub fn of(content: &[u8]) -> Option<Self> {
        let forms = [(NACL, Self::Nacl), (ANSIBLE, Self::AnsibleVault), (FERNET, Self::Fernet)];
        forms.into_iter().find(|(start, _)| content.starts_with(start)).map(|(_, form)| form)
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nacl => "$NACL",
            Self::AnsibleVault => "Ansible vault",
            Self::Fernet => "Fernet",
        })
    }
}

/// Held while a key is derived: 512 MiB once, however many threads ask.
static DERIVING: Mutex<()> = Mutex::new(());

/// Runs `derive` while no other derivation runs in this process.
pub(crate) fn derive_one_at_a_time<T>(derive: impl FnOnce() -> T) -> T {
    let _alone = DERIVING.lock().unwrap_or_else(PoisonError::into_inner);
    derive()
}

/// How much Argon2 works.
pub(crate) struct Cost {
    pub(crate) algorithm: Algorithm,
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
}

const NACL_COST: Cost = Cost { algorithm: Algorithm::Argon2i, memory_kib: 524_288, passes: 8 };

/// A 32-byte key by Argon2, version 1.3, in one lane. `Err` when the memory is not to be had.
pub(crate) fn argon2_key(password: &[u8], salt: &[u8], cost: &Cost) -> Result<Zeroizing<[u8; 32]>, KeyfileError> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32)).map_err(|_| KeyfileError::Damaged)?;
    derive_one_at_a_time(|| {
        let mut memory: Vec<Block> = Vec::new();
        let blocks = params.block_count();
        memory.try_reserve_exact(blocks).map_err(|_| KeyfileError::Memory { mib: cost.memory_kib / 1024 })?;
        memory.resize(blocks, Block::default());
        let mut key = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(cost.algorithm, Version::V0x13, params);
        let derived = argon2.hash_password_into_with_memory(password, salt, key.as_mut(), &mut memory);
        memory.zeroize();
        derived.map(|()| key).map_err(|_| KeyfileError::Damaged)
    })
}

fn pbkdf2_key<const N: usize>(password: &SecretText, salt: &[u8], rounds: u32) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    derive_one_at_a_time(|| pbkdf2::pbkdf2_hmac::<Sha256>(password.expose().as_bytes(), salt, rounds, key.as_mut()));
    key
}

/// `content` in the current form.
///
/// # Errors
/// No 512 MiB of memory, or no random bytes.
pub fn encrypt(content: &[u8], password: &SecretText) -> Result<Vec<u8>, KeyfileError> {
    let key = argon2_key(password.expose().as_bytes(), &NACL_SALT, &NACL_COST)?;
    Ok([NACL, &seal_box(&key, content)?].concat())
}

/// The plain content of an encrypted key file. Takes seconds; for the oldest form, half a minute.
///
/// # Errors
/// The password is wrong, the file is damaged or not encrypted, or there are no 512 MiB of memory.
pub fn decrypt(content: &[u8], password: &SecretText) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    match Encryption::of(content).ok_or(KeyfileError::NotEncrypted)? {
        Encryption::Nacl => {
            let sealed = &content[NACL.len()..];
            if sealed.len() < NONCE_BYTES + 16 {
                return Err(KeyfileError::Damaged);
            }
            let key = argon2_key(password.expose().as_bytes(), &NACL_SALT, &NACL_COST)?;
            open_box(&key, sealed).ok_or(KeyfileError::WrongPassword)
        }
        Encryption::AnsibleVault => open_ansible(content, password),
        Encryption::Fernet => open_fernet(content, password),
    }
}

/// A fresh nonce, then tag and ciphertext.
pub(crate) fn seal_box(key: &[u8; 32], content: &[u8]) -> Result<Vec<u8>, KeyfileError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| KeyfileError::Randomness)?;
    let cipher = XSalsa20Poly1305::new(key.into());
    let sealed = cipher.encrypt(&nonce.into(), content).expect("a few kilobytes are below the cipher's bound");
    Ok([&nonce[..], &sealed].concat())
}

/// What [`seal_box`] has sealed; `None` for another key or other bytes.
pub(crate) fn open_box(key: &[u8; 32], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    XSalsa20Poly1305::new(key.into()).decrypt(nonce.into(), sealed).ok().map(Zeroizing::new)
}

/// Whether `tag` is the HMAC-SHA256 of `parts` under `key`, in constant time.
fn tag_holds(key: &[u8], parts: &[u8], tag: &[u8]) -> bool {
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(key).map(|mac| mac.chain_update(parts));
    mac.is_ok_and(|mac| mac.verify_slice(tag).is_ok())
}

/// A header line, then hexadecimal lines that give three hexadecimal lines: salt, tag, ciphertext.
fn open_ansible(content: &[u8], password: &SecretText) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let damaged = || KeyfileError::Damaged;
    let text = std::str::from_utf8(content).map_err(|_| damaged())?;
    let (header, body) = text.split_once('\n').ok_or_else(damaged)?;
    if header.trim_end() != "$ANSIBLE_VAULT;1.1;AES256" {
        return Err(KeyfileError::AnsibleVersion);
    }
    let inner = hex::decode(body.split_ascii_whitespace().collect::<String>()).map_err(|_| damaged())?;
    let fields: Option<Vec<Vec<u8>>> = inner.split(|b| *b == b'\n').map(|field| hex::decode(field).ok()).collect();
    let Some([salt, tag, sealed]) = fields.as_deref() else { return Err(damaged()) };
    let key = pbkdf2_key::<80>(password, salt, ANSIBLE_ROUNDS);
    if !tag_holds(&key[32..64], sealed, tag) {
        return Err(KeyfileError::WrongPassword);
    }
    let mut plain = Zeroizing::new(sealed.clone());
    let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(&key[..32], &key[64..]).map_err(|_| damaged())?;
    cipher.apply_keystream(&mut plain);
    // PKCS#7: the last byte says how many there are too many.
    let padding = plain.last().map_or(0, |last| usize::from(*last));
    if padding == 0 || padding > 16 || padding > plain.len() {
        return Err(damaged());
    }
    let length = plain.len() - padding;
    plain.truncate(length);
    Ok(plain)
}

/// Base64 of: version 0x80, time (8), initial vector (16), ciphertext, tag (32) over all before it.
fn open_fernet(content: &[u8], password: &SecretText) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let damaged = || KeyfileError::Damaged;
    let token = URL_SAFE.decode(content.trim_ascii()).map_err(|_| damaged())?;
    let (signed, tag) = token.split_last_chunk::<32>().ok_or_else(damaged)?;
    let Some(([0x80, ..], rest)) = signed.split_first_chunk::<9>() else { return Err(damaged()) };
    let (vector, sealed) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    let key = pbkdf2_key::<32>(password, FERNET_SALT, FERNET_ROUNDS);
    if !tag_holds(&key[..16], signed, tag) {
        return Err(KeyfileError::WrongPassword);
    }
    let cipher = cbc::Decryptor::<aes::Aes128>::new_from_slices(&key[16..], vector).map_err(|_| damaged())?;
    cipher.decrypt_padded_vec_mut::<Pkcs7>(sealed).map(Zeroizing::new).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWORD: &str = "vector-Passw0rd-1!";

    fn vector(path: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../tests/vectors/wallets/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn an_ansible_vault_of_the_python_wallet_opens() {
        let sealed = vector("formats/ansible-vault.txt");
        assert_eq!(Encryption::of(&sealed), Some(Encryption::AnsibleVault));
        assert_eq!(*decrypt(&sealed, &PASSWORD.into()).unwrap(), vector("tree/plain/coldkey"));
        assert_eq!(decrypt(&sealed, &"vector-Passw0rd-1".into()).unwrap_err(), KeyfileError::WrongPassword);
        let mut other = sealed.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(decrypt(&other, &PASSWORD.into()).is_err());
        assert!(decrypt(&sealed[..sealed.len() / 2], &PASSWORD.into()).is_err());
        let newer = [b"$ANSIBLE_VAULT;1.2;AES256;x\n", &sealed[27..]].concat();
        assert_eq!(decrypt(&newer, &PASSWORD.into()).unwrap_err(), KeyfileError::AnsibleVersion);
    }

    /// Everything about the current form, since each derivation takes 512 MiB and seconds.
    #[test]
    fn slow_the_current_form_opens_and_is_written_as_the_python_wallet_does() {
        let plain = vector("tree/plain/coldkey");
        let key = argon2_key(PASSWORD.as_bytes(), &NACL_SALT, &NACL_COST).unwrap();
        assert_eq!(*open_box(&key, &vector("formats/nacl.bin")[NACL.len()..]).unwrap(), plain);
        let sealed = encrypt(&plain, &PASSWORD.into()).unwrap();
        assert_eq!((sealed.len(), Encryption::of(&sealed)), (plain.len() + 45, Some(Encryption::Nacl)));
        assert_eq!(*open_box(&key, &sealed[NACL.len()..]).unwrap(), plain, "what we write opens under the key that opened theirs");
        assert_ne!(sealed, encrypt_under(&key, &plain), "a nonce is used once");
        let other_key = [7; 32];
        assert!(open_box(&other_key, &sealed[5..]).is_none());
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert!(open_box(&key, &changed[5..]).is_none());
    }

    fn encrypt_under(key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
        [NACL, &seal_box(key, plain).unwrap()].concat()
    }

    #[test]
    fn slow_the_oldest_form_opens() {
        assert_eq!(*decrypt(&vector("formats/fernet-legacy.txt"), &PASSWORD.into()).unwrap(), vector("tree/plain/coldkey"));
    }

    #[test]
    fn a_damaged_file_costs_no_derivation() {
        for content in
            [&b"$NACL"[..], b"$NACLxxxxxxxx", b"gAAAAA!!", b"gAAAAAAAAAAA", b"$ANSIBLE_VAULT;1.1;AES256", b"$ANSIBLE_VAULT;1.1;AES256\nzz"]
        {
            assert_eq!(decrypt(content, &PASSWORD.into()).unwrap_err(), KeyfileError::Damaged, "{content:?}");
        }
        assert_eq!(decrypt(b"{}", &PASSWORD.into()).unwrap_err(), KeyfileError::NotEncrypted);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_vaults_are_refused_without_panic(body: Vec<u8>, fields in "([0-9a-f]{0,40}\n){0,4}") {
            let raw = [b"$ANSIBLE_VAULT;1.1;AES256\n", &body[..]].concat();
            prop_assert!(decrypt(&raw, &PASSWORD.into()).is_err());
            let shaped = format!("$ANSIBLE_VAULT;1.1;AES256\n{}", hex::encode(fields));
            prop_assert!(decrypt(shaped.as_bytes(), &PASSWORD.into()).is_err());
        }
    }
}
