//! What clap has to say, in one line.

/// What is wrong, in one line: all that is said before the usage, such as which
/// argument is missing, or which name was perhaps meant.
pub fn reason_of(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let said = text.split("\n\nUsage: ").next().unwrap_or_default();
    let said = said
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let words: Vec<_> = said
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    words.join("; ")
}
