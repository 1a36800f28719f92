//! What a type's name says when the attribute says nothing, and what a topic may be.

/// The longest topic, in bytes.
const MAX_TOPIC_BYTES: usize = 200;

/// The name of a type in kebab case: `HttpRequestSeen` is `http-request-seen`.
pub(crate) fn kebab_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut kebab = String::with_capacity(name.len() + 8);
    for (at, &char) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(at + 1);
        let starts_word = char.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_numeric()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if starts_word {
            kebab.push('-');
        }
        if char == '_' {
            kebab.push('-');
        } else {
            kebab.extend(char.to_lowercase());
        }
    }
    kebab
}

/// What is wrong with a topic, and what to write instead.
pub(crate) fn topic_mistake(topic: &str) -> Option<String> {
    if topic.len() > MAX_TOPIC_BYTES {
        return Some(format!(
            "a topic has at most {MAX_TOPIC_BYTES} bytes, and this one has {}: write a shorter one",
            topic.len()
        ));
    }
    let mut words = topic.split('.');
    if words.all(is_word) {
        return None;
    }
    let rule = "a topic is words of letters, digits, `_` and `-` joined by dots, such as \
                \"orders.placed\"";
    let wildcard = topic.split('.').any(|word| word == "*" || word == "#");
    Some(if wildcard {
        format!("an event is published to one topic, and patterns are for subscribers: {rule}")
    } else {
        rule.to_owned()
    })
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_case_splits_words_acronyms_and_versions() {
        for (name, kebab) in [
            ("OrderPlaced", "order-placed"),
            ("Order", "order"),
            ("HTTPRequestSeen", "http-request-seen"),
            ("SeenByHTTP", "seen-by-http"),
            ("OrderPlacedV2", "order-placed-v2"),
            ("Sha256Sum", "sha256-sum"),
            ("Order_Placed", "order-placed"),
            ("order_placed", "order-placed"),
        ] {
            assert_eq!(kebab_case(name), kebab);
        }
    }

    #[test]
    fn a_topic_is_words_joined_by_dots() {
        for good in ["orders", "orders.placed", "A-b_9.c", &"x".repeat(200)] {
            assert_eq!(topic_mistake(good), None, "{good}");
        }
        for bad in
            ["", ".", "orders.", ".orders", "orders..placed", "orders/placed", "größe", "a b"]
        {
            let mistake = topic_mistake(bad).unwrap();
            assert!(mistake.contains("such as \"orders.placed\""), "{bad}: {mistake}");
        }
    }

    #[test]
    fn a_long_topic_is_told_its_length() {
        let mistake = topic_mistake(&"x".repeat(201)).unwrap();
        assert!(mistake.contains("at most 200 bytes, and this one has 201"), "{mistake}");
    }

    #[test]
    fn a_pattern_is_told_apart_from_a_topic() {
        for pattern in ["orders.*", "#"] {
            assert!(topic_mistake(pattern).unwrap().contains("patterns are for subscribers"));
        }
    }
}
