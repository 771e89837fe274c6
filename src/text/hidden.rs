//! Which characters of a text a person sees, and which would be shown as nothing.

/// What a terminal shows as nothing, or as if it were a space, or by reordering the line: Default_Ignorable_Code_Point
/// (Unicode 16, DerivedCoreProperties.txt), the other format controls without a shape, every space but that of ASCII and
/// the wide one of CJK, the line separators, and what is never a character.
const HIDDEN: [(u32, u32); 27] = [
    (0xa0, 0xa0),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x1680, 0x1680),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x2000, 0x200f),
    (0x2028, 0x202f),
    (0x205f, 0x206f),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xfdd0, 0xfdef),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0xfffe, 0xffff),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0x1_fffe, 0x1_ffff),
    (0x2_fffe, 0x2_ffff),
    (0x3_fffe, 0x3_ffff),
    (0xe_0000, 0xe_0fff),
    (0xf_fffe, 0x10_ffff),
];

/// What a character does where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is seen.
    Seen(char),
    /// It chooses the shape of the one before it, and is seen by that.
    Selector,
    /// It joins its neighbours, or keeps them apart, and is seen by that.
    Joiner,
    /// It would not be seen, or acts.
    Escaped,
}

/// The role of a character between these two. One that is hidden does its work only where the scripts need it, and only
/// once: whole texts have been hidden in rows of selectors behind an emoji.
pub fn role(before: Role, c: char, after: Option<char>) -> Role {
    if !is_hidden(c) {
        return Role::Seen(c);
    }
    let has_shapes = matches!(before, Role::Seen(base) if is_joining(base) || is_symbol(base));
    let is_joined = matches!(before, Role::Seen(base) if is_joining(base)) || before == Role::Selector;
    match c {
        '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' if has_shapes => {
            Role::Selector
        }
        '\u{200c}' | '\u{200d}' if is_joined && after.is_some_and(is_joining) && !after.is_some_and(is_hidden) => {
            Role::Joiner
        }
        _ => Role::Escaped,
    }
}

fn is_hidden(c: char) -> bool {
    let c = u32::from(c);
    let at = HIDDEN.partition_point(|(_, last)| *last < c);
    HIDDEN.get(at).is_some_and(|(first, _)| *first <= c)
}

/// Whether it is of a script, or of the emoji, in which a joiner shows: Arabic to Vedic, their extensions, and symbols.
fn is_joining(c: char) -> bool {
    matches!(u32::from(c), 0x600..=0x1cff | 0x2190..=0x2bff | 0xa800..=0xabff | 0x1_0a00..=0x1_1fff | 0x1_e900..=0x1_faff)
}

/// Whether it is a sign or an ideograph, some of which come in more than one shape.
fn is_symbol(c: char) -> bool {
    matches!(u32::from(c), 0x2010..=0x218f | 0x3001..=0x9fff | 0xf900..=0xfaff | 0x1_f000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_as_the_search_needs_it() {
        assert!(HIDDEN.is_sorted_by(|a, b| a.0 <= a.1 && a.1 < b.0));
    }
}
