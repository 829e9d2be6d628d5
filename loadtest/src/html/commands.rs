//! The commands that repeat what is reported.

use maud::{Markup, html};

use crate::terminal::sanitized;

/// A command line, and the file to repeat it from.
#[derive(Debug)]
pub(super) struct RepeatCommand {
    pub(super) name: String,
    /// The arguments that were given, without the program's name.
    pub(super) args: Vec<String>,
    /// The file of a run, which can be repeated from it.
    pub(super) file: Option<String>,
}

/// A section with all of them.
pub(super) fn section(repeats: &[RepeatCommand]) -> Markup {
    html! {
        section id="repeat" aria-labelledby="repeat-title" {
            h2 id="repeat-title" { "To repeat it" }
            p class="note" {
                "The commands as they were given, and the runs from their files: same plan, same seed."
            }
            dl class="commands" {
                @for repeat in repeats {
                    dt { (repeat.name) }
                    dd {
                        (code(&command(&repeat.args)))
                        @if let Some(file) = &repeat.file {
                            (code(&command(&["rerun".to_owned(), file.clone()])))
                        }
                    }
                }
            }
        }
    }
}

/// The command line, quoted for a shell.
fn command(args: &[String]) -> String {
    let quoted = shell_words::join(args.iter().map(|argument| sanitized(argument)));
    format!("loadtest {quoted}")
}

fn code(text: &str) -> Markup {
    html! { code class="command" { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let args = ["run", "--server-cmd", "ringback --port 1", "it's", "$HOME"];
        let args = args.map(str::to_owned);
        let expected = "loadtest run --server-cmd 'ringback --port 1' 'it'\\''s' '$HOME'";
        assert_eq!(command(&args), expected);
    }
}
