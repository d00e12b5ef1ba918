//! Rule text as tokens with their places, for `lint`: Rhai checks syntax, but knows neither keywords nor destinations.
//! Follows Rhai's lexical rules (nested comments, escapes, raw and interpolated strings). Only called with text that Rhai
//! has compiled, so what is odd here is skipped, not reported.

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Word(String),
    /// A text literal without interpolation, unescaped.
    Text(String),
    /// Any other single character that is not white space. Numbers are words. A text literal with interpolations is a
    /// back-tick, and for each of them `$`, `{`, the code and `}`; what stands between them is left out.
    Mark(char),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: usize,
    pub(super) column: usize,
    /// How many characters stand before it in the source.
    pub(super) at: usize,
}

impl Placed {
    pub(super) fn word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(word) => Some(word),
            Token::Text(_) | Token::Mark(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.token {
            Token::Text(text) => Some(text),
            Token::Word(_) | Token::Mark(_) => None,
        }
    }

    pub(super) fn is(&self, mark: char) -> bool {
        self.token == Token::Mark(mark)
    }
}

/// All tokens of `source`, those inside interpolations included.
pub(super) fn tokens(source: &str) -> Vec<Placed> {
    let mut lexer = Lexer {
        letters: source.chars().collect(),
        at: 0,
        line: 1,
        column: 1,
        out: Vec::new(),
        braces: Vec::new(),
    };
    lexer.run();
    lexer.out
}

struct Lexer {
    letters: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
    out: Vec<Placed>,
    /// One count of open braces for each `${` that is open.
    braces: Vec<usize>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek(0)?;
        self.at += 1;
        if letter == '\n' {
            self.new_line();
        } else {
            self.column += 1;
        }
        Some(letter)
    }

    fn new_line(&mut self) {
        self.line += 1;
        self.column = 1;
    }

    /// The end of a line where Rhai takes a CR for one too: behind a `//` comment and behind an opening back-tick. Elsewhere a CR
    /// is white space, and begins no line.
    fn line_end(&mut self) {
        if self.peek(0) == Some('\r') {
            self.at += 1;
            if self.peek(0) == Some('\n') {
                self.at += 1;
            }
            self.new_line();
        } else if self.peek(0) == Some('\n') {
            self.next();
        }
    }

    fn run(&mut self) {
        while let Some(letter) = self.peek(0) {
            let (line, column, at) = (self.line, self.column, self.at);
            let token = match letter {
                _ if letter.is_whitespace() => {
                    self.next();
                    None
                }
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.quoted(),
                '`' => {
                    self.next();
                    self.interpolated(true)
                }
                '\'' => self.character(),
                '#' if matches!(self.peek(1), Some('"' | '#')) => self.raw(),
                '{' | '}' => self.brace(letter),
                _ if letter.is_alphanumeric() || letter == '_' => Some(self.word()),
                _ => self.next().map(Token::Mark),
            };
            if let Some(token) = token {
                self.out.push(Placed {
                    token,
                    line,
                    column,
                    at,
                });
            }
        }
    }

    fn word(&mut self) -> Token {
        let mut word = String::new();
        while let Some(letter) = self.peek(0).filter(|l| l.is_alphanumeric() || *l == '_') {
            word.push(letter);
            self.next();
        }
        Token::Word(word)
    }

    fn brace(&mut self, letter: char) -> Option<Token> {
        self.next();
        match (letter, self.braces.last_mut()) {
            ('{', Some(open)) => *open += 1,
            ('}', Some(0)) => {
                self.braces.pop();
                self.taken(letter);
                return self.interpolated(false);
            }
            ('}', Some(open)) => *open -= 1,
            (_, None | Some(_)) => {}
        }
        Some(Token::Mark(letter))
    }

    fn line_comment(&mut self) -> Option<Token> {
        while self.peek(0).is_some_and(|letter| !matches!(letter, '\r' | '\n')) {
            self.next();
        }
        self.line_end();
        None
    }

    fn block_comment(&mut self) -> Option<Token> {
        let mut depth = 0_usize;
        while let Some(letter) = self.next() {
            match (letter, self.peek(0)) {
                ('/', Some('*')) => {
                    self.next();
                    depth += 1;
                }
                ('*', Some('/')) => {
                    self.next();
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                (_, _) => {}
            }
        }
        None
    }

    fn quoted(&mut self) -> Option<Token> {
        self.next();
        let mut text = String::new();
        while let Some(letter) = self.next() {
            match letter {
                '"' if self.peek(0) == Some('"') => {
                    self.next();
                    text.push('"');
                }
                '"' => return Some(Token::Text(text)),
                '\\' => self.escape(&mut text),
                _ => text.push(letter),
            }
        }
        None
    }

    fn escape(&mut self, text: &mut String) {
        let digits = match self.next() {
            Some('n') => return text.push('\n'),
            Some('t') => return text.push('\t'),
            Some('r') => return text.push('\r'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('\r') if self.peek(0) == Some('\n') => return self.escape(text),
            // A line continuation: the white space at the start of the next line is not part of the text.
            Some('\n') => {
                while self.peek(0).is_some_and(|l| l.is_whitespace() && l != '\n') {
                    self.next();
                }
                return;
            }
            Some(other) => return text.push(other),
            None => return,
        };
        let code: String = (0..digits).filter_map(|_| self.next()).collect();
        text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
    }

    /// The mark that was just taken, as a token.
    fn taken(&mut self, mark: char) {
        self.out.push(Placed {
            token: Token::Mark(mark),
            line: self.line,
            column: self.column - 1,
            at: self.at - 1,
        });
    }

    /// From after the opening back-tick (`whole`), or from after an interpolation, up to the end or the next interpolation.
    fn interpolated(&mut self, whole: bool) -> Option<Token> {
        let mut text = String::new();
        let opening = Placed {
            token: Token::Mark('`'),
            line: self.line,
            column: self.column - 1,
            at: self.at - 1,
        };
        if whole {
            self.line_end();
        }
        while let Some(letter) = self.next() {
            match (letter, self.peek(0)) {
                ('\r', Some('\n')) => {}
                ('\\', Some('$')) if self.peek(1) == Some('{') => {
                    self.next();
                    text.push('$');
                }
                ('`', Some('`')) => {
                    self.next();
                    text.push('`');
                }
                ('`', _) => return whole.then_some(Token::Text(text)),
                ('$', Some('{')) => {
                    if whole {
                        self.out.push(opening);
                    }
                    self.taken(letter);
                    self.next();
                    self.taken('{');
                    self.braces.push(0);
                    return None;
                }
                (_, _) => text.push(letter),
            }
        }
        None
    }

    fn character(&mut self) -> Option<Token> {
        self.next();
        while let Some(letter) = self.next() {
            match letter {
                '\'' => break,
                '\\' => self.escape(&mut String::new()),
                _ => {}
            }
        }
        None
    }

    fn raw(&mut self) -> Option<Token> {
        let hashes = self.letters[self.at..].iter().take_while(|l| **l == '#').count();
        if self.peek(hashes) != Some('"') {
            return self.next().map(Token::Mark);
        }
        (0..=hashes).for_each(|_| {
            self.next();
        });
        let mut text = String::new();
        while let Some(letter) = self.next() {
            if letter == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                (0..hashes).for_each(|_| {
                    self.next();
                });
                return Some(Token::Text(text));
            }
            text.push(letter);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source)
            .iter()
            .filter_map(|t| t.text().map(str::to_owned))
            .collect()
    }

    #[test]
    fn texts_are_unescaped_and_comments_skipped() {
        let source = "// \"no\"\n/* \"no\" /* \"no\" */ */ a(\"one\\n\\x41\", #\"raw \\d\"#, `back`, '\\'', \"two\")";
        assert_eq!(texts(source), ["one\nA", "raw \\d", "back", "two"]);
    }

    #[test]
    fn code_inside_an_interpolation_is_seen_and_its_text_is_no_literal() {
        let all = tokens("let a = `x ${image.PatientID + \"lit\" + #{a: 1}.a} y`; b");
        let words: Vec<&str> = all.iter().filter_map(Placed::word).collect();
        assert_eq!(words, ["let", "a", "image", "PatientID", "a", "1", "a", "b"]);
        assert_eq!(texts("`x ${\"lit\"} y`"), ["lit"]);
        let all = tokens("a `\n${b}\n${`${c}`}` d");
        let found: Vec<String> = all
            .iter()
            .map(|token| match &token.token {
                Token::Mark(mark) => mark.to_string(),
                Token::Word(text) | Token::Text(text) => text.clone(),
            })
            .collect();
        assert_eq!(found.concat(), "a`${b}${`${c}}d");
        assert_eq!((all[1].line, all[1].column, all[1].at), (1, 3, 2));
        assert_eq!((all[2].line, all[2].column, all[2].at), (2, 1, 4));
        assert_eq!((all[3].line, all[3].column, all[3].at), (2, 2, 5));
    }

    /// As Rhai has it (`get_next_token` of its tokenizer): what it runs must not be hidden from the checks behind a comment.
    #[test]
    fn a_comment_ends_with_its_line_whatever_ends_the_line() {
        for end in ["\r", "\n", "\r\n"] {
            let all = tokens(&format!("// no{end}a // no{end}b `{end}c` d"));
            let found: Vec<(usize, usize)> = all.iter().map(|token| (token.line, token.column)).collect();
            assert_eq!(
                all.iter().filter_map(Placed::word).collect::<String>(),
                "abd",
                "{end:?}"
            );
            assert_eq!(found, [(2, 1), (3, 1), (3, 3), (4, 4)], "{end:?}");
            assert_eq!(all[2].text(), Some("c"), "{end:?}");
        }
        // White space elsewhere: Rhai counts no line.
        assert_eq!((tokens("a;\rb")[2].line, tokens("a;\r\nb")[2].line), (1, 2));
        assert_eq!(texts("\"a\\\r\n b\" `c\r\nd`"), ["ab", "c\nd"]);
    }

    #[test]
    fn an_escaped_interpolation_is_text() {
        let all = tokens("`a \\${b} \\$c` d");
        assert_eq!(all[0].text(), Some("a ${b} \\$c"));
        assert_eq!(all[1].word(), Some("d"));
    }

    #[test]
    fn places_are_lines_and_columns_from_one() {
        let all = tokens("a\n  image.X");
        assert_eq!((all[1].line, all[1].column), (2, 3));
        assert_eq!((all[3].line, all[3].column), (2, 9));
    }
}
