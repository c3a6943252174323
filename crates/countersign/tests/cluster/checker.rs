//! The checker: reads what was asked and answered, and what the trail says, and finds where the two break a promise.
//!
//! It knows nothing of how the server works. Each rule is a function of history and trail; each has a bad history below
//! that it must find.

use crate::{
    history::{Answer, Call, History, Purpose, Shown, name_of_call},
    people::THRESHOLD,
    trail::{Event, Trail},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// One code, two successes.
    AcceptedTwice,
    /// A wrong code, accepted.
    WrongAccepted,
    /// An answer of which the trail knows nothing: an acceptance was lost, or a failure not counted.
    AnswerLost,
    /// One attempt that was judged more than once, or got two different answers.
    JudgedTwice,
    /// An answer says that other failures were counted than the trail says.
    Miscounted,
    /// A good code that nobody had used, refused.
    RightRefused,
    /// An answer that is neither a verdict nor "not now, try again in a moment".
    OddAnswer,
    /// After everything, a used code that was not plainly refused.
    NotRefused,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AcceptedTwice => "a code was accepted twice",
            Self::WrongAccepted => "a wrong code was accepted",
            Self::AnswerLost => "an answer is not in the trail",
            Self::JudgedTwice => "an attempt was judged twice",
            Self::Miscounted => "failures were miscounted",
            Self::RightRefused => "a good code was refused",
            Self::OddAnswer => "an answer nobody should get",
            Self::NotRefused => "a used code was not refused in the end",
        })
    }
}

/// A broken promise, with the lines of the history that show it.
#[derive(Debug)]
pub(crate) struct Violation {
    /// Which one.
    pub(crate) rule: Rule,
    /// Whose code.
    pub(crate) person: String,
    /// Which code.
    pub(crate) shown: Shown,
    /// What is wrong.
    detail: String,
    /// The calls concerned, as the history has them.
    lines: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}: {}", self.rule, self.person, self.shown, self.detail)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Finds every broken promise.
pub(crate) fn check(history: &History, trail: &Trail) -> Vec<Violation> {
    let checker = Checker {
        history,
        trail,
        attempts: history.attempts(),
        calls: history.calls.iter().map(|call| (name_of_call(call.number), call)).collect(),
    };
    let mut violations = Vec::new();
    checker.codes_are_accepted_once(&mut violations);
    checker.wrong_codes_are_refused(&mut violations);
    checker.answers_are_in_the_trail(&mut violations);
    checker.attempts_are_judged_once(&mut violations);
    checker.counts_add_up(&mut violations);
    checker.good_codes_are_accepted(&mut violations);
    checker.answers_are_what_callers_expect(&mut violations);
    checker.used_codes_are_refused_in_the_end(&mut violations);
    violations
}

struct Checker<'a> {
    history: &'a History,
    trail: &'a Trail,
    attempts: BTreeMap<usize, Vec<&'a Call>>,
    calls: BTreeMap<String, &'a Call>,
}

impl<'a> Checker<'a> {
    fn violation(&self, rule: Rule, calls: &[&Call], detail: impl Into<String>) -> Violation {
        let (person, shown) = calls.first().map_or((0, Shown::Wrong), |call| (call.person, call.shown));
        Violation {
            rule,
            person: self.history.people[person].clone(),
            shown,
            detail: detail.into(),
            lines: calls.iter().map(|call| self.line(call)).collect(),
        }
    }

    /// Returns a call as the history has it, and what the trail has of it.
    fn line(&self, call: &Call) -> String {
        let call_line = serde_json::to_string(call).unwrap_or_default();
        let events: Vec<String> = self
            .judgements(call)
            .map(|event| format!("{} {} (event {})", event.action, event.reason, event.seq))
            .collect();
        format!("{call_line} trail: {events:?}")
    }

    /// Returns the judgements that a call caused.
    fn judgements(&self, call: &Call) -> impl Iterator<Item = &'a Event> + use<'a> {
        let trail = self.trail;
        trail.of_call(&name_of_call(call.number)).iter().filter(|event| event.action.starts_with("verify."))
    }

    /// A code has one success, whoever was told of it: an attempt that was answered as accepted is one, and so is one that
    /// the trail knows as accepted though its answer was lost. A retry with the same request id is the same attempt.
    fn codes_are_accepted_once(&self, found: &mut Vec<Violation>) {
        let mut successes: BTreeMap<(usize, Shown), BTreeSet<usize>> = BTreeMap::new();
        for call in &self.history.calls {
            let is_in_trail = self.judgements(call).any(|event| event.action == "verify.accepted");
            if call.shown != Shown::Wrong && (call.answer.is_accepted() || is_in_trail) {
                successes.entry((call.person, call.shown)).or_default().insert(call.attempt);
            }
        }
        for attempts in successes.values().filter(|attempts| attempts.len() > 1) {
            let calls: Vec<&Call> =
                attempts.iter().flat_map(|attempt| &self.attempts[attempt]).copied().collect();
            let detail = format!("{} attempts succeeded", attempts.len());
            found.push(self.violation(Rule::AcceptedTwice, &calls, detail));
        }
    }

    fn wrong_codes_are_refused(&self, found: &mut Vec<Violation>) {
        let wrong = self.history.calls.iter().filter(|call| call.shown == Shown::Wrong);
        for call in wrong {
            if call.answer.is_accepted()
                || self.judgements(call).any(|event| event.action == "verify.accepted")
            {
                found.push(self.violation(Rule::WrongAccepted, &[call], "it is none of theirs"));
            }
        }
    }

    /// Nothing that was answered is forgotten: no acceptance, and no failure either.
    fn answers_are_in_the_trail(&self, found: &mut Vec<Violation>) {
        for calls in self.attempts.values() {
            let Some(result) = calls.iter().find_map(|call| call.answer.result()) else { continue };
            let mut judgements = calls.iter().flat_map(|call| self.judgements(call));
            if !judgements.any(|event| says(event, result)) {
                let detail = format!("it was answered as {result}");
                found.push(self.violation(Rule::AnswerLost, calls, detail));
            }
        }
    }

    /// An attempt is judged once, however often it is sent, and all its answers are the first one.
    fn attempts_are_judged_once(&self, found: &mut Vec<Violation>) {
        for calls in self.attempts.values() {
            let judgements = calls.iter().flat_map(|call| self.judgements(call)).count();
            if judgements > 1 {
                let detail = format!("the trail has {judgements} judgements");
                found.push(self.violation(Rule::JudgedTwice, calls, detail));
            }
            let verdicts = calls.iter().filter(|call| call.answer.result().is_some());
            let mut answers = verdicts.map(|call| &call.answer);
            if let Some(first) = answers.next()
                && answers.any(|other| other != first)
            {
                found.push(self.violation(Rule::JudgedTwice, calls, "its answers differ"));
            }
        }
    }

    /// Walks everybody's chain and counts; what an answer says is left must be what is left.
    fn counts_add_up(&self, found: &mut Vec<Violation>) {
        for chain in self.trail.chains() {
            let mut failures = 0;
            for event in chain {
                match (event.action.as_str(), event.reason.as_str()) {
                    ("verify.accepted" | "method.unlocked", _) => failures = 0,
                    ("verify.rejected", "wrong_code") => failures += 1,
                    _ => continue,
                }
                let Some(calls) =
                    self.calls.get(&event.request_id).and_then(|call| self.attempts.get(&call.attempt))
                else {
                    continue;
                };
                let left = THRESHOLD.saturating_sub(failures);
                let says_otherwise = |call: &&&Call| matches!(call.answer, Answer::Verdict { attempts_left: Some(said), .. } if said != left);
                if event.action == "verify.rejected" && calls.iter().any(|call| says_otherwise(&call)) {
                    let detail = format!("by the trail, {failures} failed and {left} are left");
                    found.push(self.violation(Rule::Miscounted, calls, detail));
                }
            }
        }
    }

    /// A token's code that nobody else tried is good. Whoever shows one waits until it is judged before they show the next
    /// one, so only another attempt at the same code may have used it. Codes of apps may be burnt by the clock.
    fn good_codes_are_accepted(&self, found: &mut Vec<Violation>) {
        let mut uses: BTreeMap<(usize, Shown), Vec<&Call>> = BTreeMap::new();
        for call in self.history.calls.iter().filter(|call| call.purpose == Purpose::Use) {
            if matches!(call.shown, Shown::Counter(_)) {
                uses.entry((call.person, call.shown)).or_default().push(call);
            }
        }
        for calls in uses.values() {
            for call in calls {
                let is_used_by_another =
                    || calls.iter().any(|other| other.attempt != call.attempt && other.sent < call.answered);
                match call.answer.result() {
                    None | Some("accepted") => {}
                    Some("replayed") if is_used_by_another() => {}
                    Some(result) => {
                        found.push(self.violation(Rule::RightRefused, calls, format!("it was {result}")));
                        break;
                    }
                }
            }
        }
    }

    fn answers_are_what_callers_expect(&self, found: &mut Vec<Violation>) {
        for call in &self.history.calls {
            let detail = match &call.answer {
                Answer::Odd { status, .. } => format!("status {status}"),
                Answer::Unavailable { retry_after: false } => "503 without Retry-After".to_owned(),
                _ => continue,
            };
            found.push(self.violation(Rule::OddAnswer, &[call], detail));
        }
    }

    fn used_codes_are_refused_in_the_end(&self, found: &mut Vec<Violation>) {
        for call in self.history.calls.iter().filter(|call| call.purpose == Purpose::LastReplay) {
            if !matches!(call.answer.result(), Some("replayed" | "rejected")) {
                let detail = format!("it was {}", call.answer.kind());
                found.push(self.violation(Rule::NotRefused, &[call], detail));
            }
        }
    }
}

/// Tells whether an event is the judgement that a caller was told of.
fn says(event: &Event, result: &str) -> bool {
    match result {
        "accepted" => event.action == "verify.accepted",
        // The failure that locks is answered as locked.
        "locked" => matches!(event.reason.as_str(), "locked" | "wrong_code"),
        "rejected" => event.reason == "wrong_code",
        reason => event.reason == reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::Subject;

    /// A history somebody made up about Ada.
    #[derive(Default)]
    struct Story {
        history: History,
        events: Vec<Event>,
    }

    impl Story {
        fn new() -> Self {
            let mut story = Self::default();
            story.history.people.push("ada".into());
            story
        }

        /// Ada shows a code, in an attempt of its own.
        fn shows(mut self, purpose: Purpose, shown: Shown, answer: Answer) -> Self {
            let number = self.history.calls.len();
            self.history.calls.push(Call {
                number,
                person: 0,
                shown,
                code: "12345678".into(),
                purpose,
                attempt: number,
                is_named: false,
                node: 0,
                sent: number as f64,
                answered: number as f64 + 0.5,
                answer,
            });
            self
        }

        fn uses(self, counter: u64, answer: Answer) -> Self {
            self.shows(Purpose::Use, Shown::Counter(counter), answer)
        }

        fn guesses(self, answer: Answer) -> Self {
            self.shows(Purpose::Guess, Shown::Wrong, answer)
        }

        /// What she did last was the attempt she began with, sent again.
        fn retrying(mut self) -> Self {
            self.history.calls.last_mut().expect("a call").attempt = 0;
            self
        }

        /// The trail has an event of what she did last.
        fn event(mut self, action: &str, reason: &str) -> Self {
            let call = self.history.calls.last().expect("a call");
            self.events.push(Event {
                seq: self.events.len() as u64 + 1,
                action: action.into(),
                subject: Subject { id: "ada".into() },
                request_id: name_of_call(call.number),
                reason: reason.into(),
            });
            self
        }

        fn accepted(self) -> Self {
            self.event("verify.accepted", "")
        }

        fn rejected(self, reason: &str) -> Self {
            self.event("verify.rejected", reason)
        }

        #[track_caller]
        fn breaks(self, expected: &[Rule]) {
            let violations = check(&self.history, &Trail::of(self.events));
            let rules: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
            assert_eq!(rules, expected, "{violations:#?}");
        }
    }

    fn verdict(result: &str) -> Answer {
        Answer::Verdict { result: result.into(), attempts_left: None }
    }

    fn rejected(left: u32) -> Answer {
        Answer::Verdict { result: "rejected".into(), attempts_left: Some(left) }
    }

    const UNAVAILABLE: Answer = Answer::Unavailable { retry_after: true };
    const NOTHING: Answer = Answer::Nothing { error: "no answer in time" };

    #[test]
    fn a_good_history_breaks_nothing() {
        Story::new()
            .uses(0, verdict("accepted"))
            .accepted()
            .shows(Purpose::Replay, Shown::Counter(0), verdict("replayed"))
            .rejected("replayed")
            .guesses(rejected(99))
            .rejected("wrong_code")
            .guesses(rejected(98))
            .rejected("wrong_code")
            .uses(1, UNAVAILABLE)
            .uses(1, verdict("accepted"))
            .accepted()
            .guesses(rejected(99))
            .rejected("wrong_code")
            .shows(Purpose::LastReplay, Shown::Counter(1), verdict("replayed"))
            .rejected("replayed")
            .breaks(&[]);
    }

    #[test]
    fn a_retry_that_repeats_the_first_answer_is_one_success() {
        let retried = Story::new().uses(0, NOTHING).accepted().uses(0, verdict("accepted")).retrying();

        retried.breaks(&[]);
    }

    #[test]
    fn a_code_whose_lost_answer_was_yes_is_used() {
        let typed_again =
            Story::new().uses(0, NOTHING).accepted().uses(0, verdict("replayed")).rejected("replayed");

        typed_again.breaks(&[]);
    }

    #[test]
    fn two_accepted_answers_for_one_code_are_found() {
        let story =
            Story::new().uses(0, verdict("accepted")).accepted().uses(0, verdict("accepted")).accepted();

        story.breaks(&[Rule::AcceptedTwice]);
    }

    #[test]
    fn a_success_nobody_was_told_of_counts_as_well() {
        let story = Story::new().uses(0, NOTHING).accepted().uses(0, verdict("accepted")).accepted();

        story.breaks(&[Rule::AcceptedTwice]);
    }

    #[test]
    fn an_acceptance_that_a_fail_over_lost_is_found() {
        let story = Story::new().uses(0, verdict("accepted"));

        story.breaks(&[Rule::AnswerLost]);
    }

    #[test]
    fn an_acceptance_that_was_lost_and_given_again_breaks_both_promises() {
        let story = Story::new().uses(0, verdict("accepted")).uses(0, verdict("accepted")).accepted();

        story.breaks(&[Rule::AcceptedTwice, Rule::AnswerLost]);
    }

    #[test]
    fn a_failure_that_was_answered_and_not_counted_is_found() {
        Story::new().guesses(rejected(99)).breaks(&[Rule::AnswerLost]);
    }

    #[test]
    fn an_event_that_says_something_else_is_no_proof_of_an_answer() {
        Story::new().guesses(rejected(99)).rejected("replayed").breaks(&[Rule::AnswerLost]);
    }

    #[test]
    fn a_retry_that_is_counted_again_is_found() {
        let story = Story::new()
            .guesses(NOTHING)
            .rejected("wrong_code")
            .guesses(rejected(98))
            .retrying()
            .rejected("wrong_code");

        story.breaks(&[Rule::JudgedTwice, Rule::Miscounted]);
    }

    #[test]
    fn a_retry_that_gets_another_answer_is_found() {
        let story =
            Story::new().uses(0, verdict("accepted")).accepted().uses(0, verdict("replayed")).retrying();

        story.breaks(&[Rule::JudgedTwice, Rule::RightRefused]);
    }

    #[test]
    fn a_count_that_forgot_a_failure_is_found() {
        let story = Story::new()
            .guesses(rejected(99))
            .rejected("wrong_code")
            .guesses(rejected(99))
            .rejected("wrong_code");

        story.breaks(&[Rule::Miscounted]);
    }

    #[test]
    fn an_accepted_guess_is_found() {
        Story::new().guesses(verdict("accepted")).accepted().breaks(&[Rule::WrongAccepted]);
    }

    #[test]
    fn a_node_that_takes_its_own_commit_for_somebody_elses_is_found() {
        let story = Story::new().uses(0, verdict("replayed")).accepted().rejected("replayed");

        story.breaks(&[Rule::JudgedTwice, Rule::RightRefused]);
    }

    #[test]
    fn an_answer_that_is_no_answer_is_found() {
        let odd = Answer::Odd { status: 500, body: String::new() };
        let story = Story::new().uses(0, odd).guesses(Answer::Unavailable { retry_after: false });

        story.breaks(&[Rule::OddAnswer, Rule::OddAnswer]);
    }

    #[test]
    fn a_used_code_must_be_refused_in_the_end_and_not_only_unanswered() {
        let story = Story::new().uses(0, verdict("accepted")).accepted().shows(
            Purpose::LastReplay,
            Shown::Counter(0),
            UNAVAILABLE,
        );

        story.breaks(&[Rule::NotRefused]);
    }

    #[test]
    fn a_violation_names_the_person_the_code_and_the_calls() {
        let story = Story::new().uses(7, verdict("accepted"));

        let violations = check(&story.history, &Trail::default());

        let told = violations[0].to_string();
        assert!(told.starts_with("an answer is not in the trail: ada, the code of counter 7: "), "{told}");
        assert!(told.contains(r#"{"number":0,"#), "{told}");
    }
}
