//! Output as pages show it beside output as it is: what differs from run to run is masked in both.

/// The speed of MD5 depends on the machine.
const HELD_UP: &str = " (held up by md5: --checksum blake3 is faster)";

/// The address of this machine, and whether another one reaches it, depend on its network.
const TO_FETCH: [(&str, &str); 2] = [(" from another machine", ""), (" on this machine", "")];

/// Numbers that are no part of a name become `#`, digests `HEX`, and addresses `HOST`.
pub fn masked(line: &str) -> String {
    let mut line = line.trim_end().replace(HELD_UP, "");
    for (text, mask) in TO_FETCH {
        line = line.replace(text, mask);
    }
    let line = address_behind(&line, "xfer://", "/");
    let line = address_behind(&line, "-H ", " ");
    let words: Vec<String> = line.split(' ').map(word).collect();
    words.join(" ").replace("-H HOST -p #", "-H HOST")
}

fn address_behind(line: &str, before: &str, after: &str) -> String {
    let Some((head, tail)) = line.split_once(before) else { return line.to_owned() };
    let rest = tail.find(after).map_or("", |at| &tail[at..]);
    format!("{head}{before}HOST{rest}")
}

fn word(word: &str) -> String {
    let bare = word.trim_end_matches([',', ';', ')']);
    if bare.len() >= 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "HEX".to_owned();
    }
    if ["bytes", "KiB", "MiB", "GiB"].contains(&bare.trim_end_matches("/s")) {
        return "UNIT".to_owned();
    }
    let mut text = String::new();
    for char in word.chars() {
        let in_number = text.ends_with('#');
        match char {
            '0'..='9' if in_number => {}
            '0'..='9' if !text.ends_with(char::is_alphabetic) => text.push('#'),
            '.' | ':' | ',' if in_number => {}
            other => text.push(other),
        }
    }
    text
}

#[test]
fn masks_what_differs_from_run_to_run_and_nothing_else() {
    let saved = |number: &str| format!("saved out/a.bin: {number}, md5 0123456789abcdef0123456789abcdef, verified");
    assert_eq!(masked(&saved("10.0 MiB")), "saved out/a.bin: # UNIT md5 HEX verified");
    assert_eq!(masked(&saved("10.0 MiB")), masked(&saved("97 bytes")));
    let fetch = "# - main - INFO - to fetch: xfer get xfer://HOST/NAME";
    let with =
        |place: &str| masked(&format!("12:00:00.123 - main - INFO - to fetch {place}: xfer get xfer://[::1]:7/NAME"));
    assert_eq!((with("on this machine"), with("from another machine")), (fetch.to_owned(), fetch.to_owned()));
    assert_eq!(masked("xfer get FILE -H 10.1.2.3 -p 41234"), masked("xfer get FILE -H 192.168.1.5"));
    assert_ne!(masked("saved a"), masked("saved b"));
}
