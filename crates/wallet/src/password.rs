//! A key file's password in the environment, in the form of the reference's wallets (spec chain-and-wallet §A.3).
//!
//! The value is scrambled with the variable's own name, which hides it from nobody. It is read because existing set-ups have it; a password
//! file or a prompt is better, since the environment of a process can be read by others of the same user and lands in crash reports.

use crate::SecretText;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::path::Path;
use zeroize::Zeroizing;

/// Longest password in the environment, scrambled.
const VALUE_MAX: usize = 8192;

/// The variable for the key file at `path`: `BT_PW_`, then the path in capitals with `_` in place of `/` and `.`.
pub fn password_variable(path: &Path) -> String {
    format!("BT_PW_{}", path.to_string_lossy().replace(['/', '.'], "_").to_uppercase())
}

/// The password that `value` of the variable `name` stands for; `None` when it is not in that form.
pub fn unscramble(name: &str, value: &str) -> Option<SecretText> {
    if value.len() > VALUE_MAX || name.is_empty() {
        return None;
    }
    let scrambled = Zeroizing::new(STANDARD.decode(value.trim()).ok()?);
    let plain: Vec<u8> = scrambled.iter().zip(name.bytes().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    String::from_utf8(plain).ok().map(SecretText::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_wallets_variables_are_understood() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/wallets/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = index["env_password"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let name = password_variable(Path::new(case["keyfile_path"].as_str().unwrap()));
            assert_eq!(name, case["env_var"]);
            assert_eq!(unscramble(&name, case["value"].as_str().unwrap()).unwrap().expose(), case["password"]);
        }
        assert!(unscramble("BT_PW_X", "no base64!").is_none());
        assert!(unscramble("BT_PW_X", "////").is_none(), "not text under this name");
    }
}
