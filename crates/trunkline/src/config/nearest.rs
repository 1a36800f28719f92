//! The known word that a mistyped one probably meant.

/// The candidate that `word` most likely stands for, if one is near enough to be a slip.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters: `bufer_sise` is a slip, `size` for `lanes` is another word.
    let limit = (word.chars().count() / 3).max(1);
    let scored = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    scored.filter(|(far, _)| *far <= limit).min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

/// How many letters must be added, taken or exchanged to turn one word into the other.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let exchanged = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_added_taken_and_exchanged_letters() {
        for (left, right, far) in
            [("", "abc", 3), ("url", "url", 0), ("uri", "url", 1), ("topics", "topic", 1)]
        {
            assert_eq!(distance(left, right), far, "{left} {right}");
            assert_eq!(distance(right, left), far, "{right} {left}");
        }
    }

    #[test]
    fn only_a_slip_has_a_nearest_word() {
        let known = ["buffer_size", "topics", "lanes"];
        assert_eq!(nearest("bufer_sise", known), Some("buffer_size"));
        assert_eq!(nearest("topic", known), Some("topics"));
        assert_eq!(nearest("colour", known), None);
    }
}
