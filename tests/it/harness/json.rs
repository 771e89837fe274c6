//! Just enough JSON to read what `--progress json` prints: objects of strings, numbers, booleans and nulls, one a line.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
    Null,
}

pub type Object = BTreeMap<String, Value>;

/// One object and nothing else; None for any other text.
pub fn parse(line: &str) -> Option<Object> {
    let mut chars = line.chars().peekable();
    let object = object(&mut chars)?;
    chars.next().is_none().then_some(object)
}

fn object(chars: &mut Peekable<Chars>) -> Option<Object> {
    let mut object = Object::new();
    expect(chars, '{')?;
    skip_blanks(chars);
    if chars.next_if_eq(&'}').is_some() {
        return Some(object);
    }
    loop {
        let key = text(chars)?;
        expect(chars, ':')?;
        let value = value(chars)?;
        if object.insert(key, value).is_some() {
            return None;
        }
        skip_blanks(chars);
        match chars.next()? {
            ',' => skip_blanks(chars),
            '}' => return Some(object),
            _ => return None,
        }
    }
}

fn value(chars: &mut Peekable<Chars>) -> Option<Value> {
    skip_blanks(chars);
    if chars.peek() == Some(&'"') {
        return text(chars).map(Value::Text);
    }
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
        word.push(c);
    }
    match word.as_str() {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "null" => Some(Value::Null),
        // Rust would also take "inf", "nan" and "+1", which JSON does not know.
        _ if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => word.parse().ok().map(Value::Number),
        _ => None,
    }
}

fn text(chars: &mut Peekable<Chars>) -> Option<String> {
    expect(chars, '"')?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(escaped(chars)?),
            c if c < ' ' => return None,
            c => text.push(c),
        }
    }
}

fn escaped(chars: &mut Peekable<Chars>) -> Option<char> {
    match chars.next()? {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        c @ ('"' | '\\' | '/') => Some(c),
        'u' => {
            let first = unit(chars)?;
            if !(0xd800..0xdc00).contains(&first) {
                return char::from_u32(first);
            }
            let (backslash, u, second) = (chars.next()?, chars.next()?, unit(chars)?);
            let is_pair = backslash == '\\' && u == 'u' && (0xdc00..0xe000).contains(&second);
            is_pair.then(|| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)))?
        }
        _ => None,
    }
}

fn unit(chars: &mut Peekable<Chars>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit << 4 | chars.next()?.to_digit(16)?))
}

fn expect(chars: &mut Peekable<Chars>, wanted: char) -> Option<()> {
    skip_blanks(chars);
    chars.next_if_eq(&wanted).map(drop)
}

fn skip_blanks(chars: &mut Peekable<Chars>) {
    while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
}

#[test]
fn reads_objects_and_nothing_else() {
    let object = parse(r#"{"v":1, "event":"st\u0061rt\ud83e\udd80\n", "eta":null,"ok": true ,"rate":-1.5e3}"#).unwrap();
    assert_eq!(object["event"], Value::Text("start🦀\n".to_owned()));
    assert_eq!((&object["v"], &object["eta"]), (&Value::Number(1.0), &Value::Null));
    assert_eq!((&object["ok"], &object["rate"]), (&Value::Bool(true), &Value::Number(-1500.0)));
    let bad =
        ["", "{", "{}x", "[]", "{\"a\":}", "{\"a\":1,}", "{\"a\":nan}", "{\"a\":\"\x1b\"}", "{'a':1}", "{\"a\" 1}"];
    for text in bad.into_iter().chain([r#"{"a":1 "b":2}"#, r#"{"a":1,"a":2}"#, r#"{"a":"\ud83e"}"#, r#"{"a":+1}"#]) {
        assert_eq!(parse(text), None, "{text}");
    }
}
