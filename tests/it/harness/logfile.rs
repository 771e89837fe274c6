//! The shape of a log line: `YYYY-MM-DD HH:MM:SS.mmm - (main|conn-N) - LEVEL - message`.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub origin: String,
    pub level: String,
    pub message: String,
}

impl LogLine {
    /// None when the line has any other shape.
    pub fn parse(line: &str) -> Option<LogLine> {
        let (stamp, rest) = line.split_once(" - ")?;
        let (origin, rest) = rest.split_once(" - ")?;
        let (level, message) = rest.split_once(" - ")?;
        let well_formed = matches_picture(stamp, "0000-00-00 00:00:00.000")
            && is_origin(origin)
            && !level.is_empty()
            && level.bytes().all(|byte| byte.is_ascii_uppercase())
            && !message.chars().any(is_dangerous);
        let (origin, level, message) = (origin.to_owned(), level.to_owned(), message.to_owned());
        well_formed.then_some(LogLine { origin, level, message })
    }

    /// The reason in `closed ADDR: ..., reason: REASON`, if this is a closing line.
    pub fn reason(&self) -> Option<&str> {
        self.message.strip_prefix("closed ")?.rsplit_once("reason: ").map(|(_, reason)| reason)
    }
}

/// Every line parsed; panics on the first line of another shape.
pub fn lines(log: &str) -> Vec<LogLine> {
    assert!(log.is_empty() || log.ends_with('\n'), "the log ends in the middle of a line: {log:?}");
    log.lines()
        .map(|line| LogLine::parse(line).unwrap_or_else(|| panic!("not a log line: {line:?}\nin the log:\n{log}")))
        .collect()
}

/// The reasons of all closing lines, in order.
pub fn reasons(log: &str) -> Vec<String> {
    lines(log).iter().filter_map(|line| line.reason().map(str::to_owned)).collect()
}

/// Every connection that was opened has exactly one closing line, which is its last.
pub fn assert_each_connection_closed_once(log: &str) {
    let lines = lines(log);
    let opened = lines.iter().filter(|line| line.message.starts_with("connection from "));
    for origin in opened.map(|line| &line.origin) {
        let of_this: Vec<_> = lines.iter().filter(|line| line.origin == *origin).collect();
        let closings = of_this.iter().filter(|line| line.reason().is_some()).count();
        let last_closes = of_this.last().is_some_and(|line| line.reason().is_some());
        assert!(closings == 1 && last_closes, "{origin} must close once, at its end: {of_this:#?}\nin the log:\n{log}");
    }
    let closings = lines.iter().filter(|line| line.reason().is_some()).count();
    let openings = lines.iter().filter(|line| line.message.starts_with("connection from ")).count();
    assert_eq!(openings, closings, "as many closing as opening lines:\n{log}");
}

/// Characters that could move a cursor, forge a line or turn text around, wherever a person sees them.
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// True if `text` has a digit where `picture` has `0`, and the same character everywhere else.
pub fn matches_picture(text: &str, picture: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == picture.len() && text.bytes().zip(picture.bytes()).all(fits)
}

fn is_origin(origin: &str) -> bool {
    let number = origin.strip_prefix("conn-").unwrap_or("");
    origin == "main" || !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn parses_a_line_of_the_right_shape() {
    let line = LogLine::parse("2026-01-15 20:10:33.123 - conn-12 - INFO - closed 1.2.3.4:5: 1 reply, reason: complete");
    assert_eq!(line.unwrap().reason(), Some("complete"));
}

#[test]
fn refuses_lines_of_another_shape() {
    for line in [
        "",
        "forged",
        "2026-01-15 20:10:33 - main - INFO - no milliseconds",
        "2026-01-15 20:10:33.123 - other - INFO - message",
        "2026-01-15 20:10:33.123 - conn- - INFO - message",
        "2026-01-15 20:10:33.123 - main - info - message",
        "2026-01-15 20:10:33.123 - main - INFO - escape \x1b[31m",
        "2026-01-15 20:10:33.123 - main - INFO - turned \u{202e} around",
    ] {
        assert_eq!(LogLine::parse(line), None, "{line:?}");
    }
}
