//! JSON values: made, and changed as values rather than as text.

use crate::Dice;
use serde_json::{Map, Number, Value};

/// Any value, three levels deep at most; `words` are strings that mean something to whoever reads it.
pub fn any(dice: &mut Dice, words: &[&str]) -> Value {
    of_depth(dice, words, 3)
}

fn of_depth(dice: &mut Dice, words: &[&str], depth: usize) -> Value {
    match dice.below(if depth == 0 { 8 } else { 10 }) {
        0 => Value::Null,
        1 => Value::Bool(dice.once_in(2)),
        2 => Value::from(dice.number()),
        3 => Value::from(-(dice.number() as i64 >> 1)),
        4 => Number::from_f64(f64::from(dice.float())).map_or(Value::Null, Value::Number),
        5 => Value::from(dice.text(20)),
        6 => Value::from(format!("0x{}", hex::encode(dice.bytes(64)))),
        7 if !words.is_empty() => Value::from(*dice.pick(words)),
        8 => (0..dice.below(4)).map(|_| of_depth(dice, words, depth - 1)).collect(),
        9 => Value::Object((0..dice.below(4)).map(|_| (dice.text(8), of_depth(dice, words, depth - 1))).collect::<Map<_, _>>()),
        _ => Value::from(format!("{:#x}", dice.number())),
    }
}

/// Changes one value somewhere within `value`: replaced, removed, doubled, wrapped, or its text or number changed a little.
pub fn change(value: &mut Value, dice: &mut Dice, words: &[&str]) {
    let here = dice.once_in(3);
    match value {
        Value::Array(list) if !list.is_empty() && !here => {
            let at = dice.below(list.len());
            match dice.below(8) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.swap(0, at),
                _ => change(&mut list[at], dice, words),
            }
        }
        Value::Object(fields) if !fields.is_empty() && !here => {
            let name = fields.keys().nth(dice.below(fields.len())).cloned().unwrap_or_default();
            match dice.below(8) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let renamed = fields.remove(&name).unwrap_or_default();
                    fields.insert(dice.text(12), renamed);
                }
                _ => change(&mut fields[&name], dice, words),
            }
        }
        Value::String(text) if !here => change_text(text, dice),
        Value::Number(_) if !here => *value = Value::from(dice.number()),
        _ => {
            let other = any(dice, words);
            *value = match dice.below(4) {
                0 => Value::Array(vec![value.take()]),
                _ => other,
            };
        }
    }
}

fn change_text(text: &mut String, dice: &mut Dice) {
    // Hexadecimal text stays such mostly, so that what reads the bytes is reached.
    if let Some(bytes) = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok())
        && !dice.once_in(8)
    {
        *text = format!("0x{}", hex::encode(crate::mutate::bytes(&bytes, dice)));
        return;
    }
    let mut characters: Vec<char> = text.chars().collect();
    let at = dice.below(characters.len());
    match dice.below(4) {
        0 if !characters.is_empty() => drop(characters.remove(at)),
        1 => drop(characters.splice(at..at, dice.text(6).chars())),
        2 => characters.truncate(at),
        _ if !characters.is_empty() => characters[at] = char::from(b' ' + dice.byte() % 95),
        _ => {}
    }
    *text = characters.into_iter().collect();
}

/// What a value looks like: its kinds to two levels, lists by their emptiness and first element.
pub fn skeleton(value: &Value) -> String {
    fn of(value: &Value, depth: usize) -> String {
        match value {
            Value::Null => "null".into(),
            Value::Bool(_) => "bool".into(),
            Value::Number(_) => "number".into(),
            Value::String(text) if text.starts_with("0x") => "hex".into(),
            Value::String(_) => "text".into(),
            Value::Array(list) => match list.first() {
                None => "[]".into(),
                Some(first) if depth > 0 => format!("[{}]", of(first, depth - 1)),
                Some(_) => "[..]".into(),
            },
            Value::Object(fields) if depth > 0 && fields.len() <= 6 => {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", of(value, depth - 1))).collect();
                format!("{{{}}}", fields.join(","))
            }
            Value::Object(_) => "{..}".into(),
        }
    }
    of(value, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_made_and_changed_without_end() {
        let mut value = json!({ "a": [1, "0x00ff", { "b": null }], "c": "text" });
        let mut dice = Dice::new(3);
        for _ in 0..2000 {
            change(&mut value, &mut dice, &["word"]);
            if value.to_string().len() > 4096 {
                value = any(&mut dice, &["word"]);
            }
        }
    }

    #[test]
    fn a_skeleton_has_kinds_and_no_values() {
        assert_eq!(skeleton(&json!({ "a": [1, 2], "b": "0x00" })), "{a:[number],b:hex}");
        assert_eq!(skeleton(&json!([])), "[]");
    }
}
