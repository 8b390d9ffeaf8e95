//! A task: one do/undo step of a deployment, on the host, journalled before it begins.
use super::machine;
machine! { "task",
/// Where a task stands.
TaskState {
    /// To be done.
    Do = "do",
    /// Being done: after a crash it is done again or undone.
    Doing = "doing",
    /// Waits for a reboot or a person.
    Wait = "wait",
    /// Done.
    Done = "done",
    /// Will not be done, because an earlier task failed.
    Hold = "hold",
    /// To be undone.
    Undo = "undo",
    /// Being undone.
    Undoing = "undoing",
    /// Undone.
    Undone = "undone",
    /// Could be neither done nor undone.
    Error = "error",
}
/// What happens to a task.
TaskEvent {
    /// It begins.
    Begin = "begin",
    /// It waits for something outside.
    Await = "await",
    /// It ended well.
    Finish = "finish",
    /// It failed: what it did is to be undone.
    Fail = "fail",
    /// An earlier task failed before this one began.
    Skip = "skip",
    /// A later task failed, or a person asks: to be undone.
    Revert = "revert",
    /// The undo begins.
    BeginUndo = "begin-undo",
    /// The undo ended well.
    FinishUndo = "finish-undo",
    /// The undo failed.
    FailUndo = "fail-undo",
}
next = next, is_final = is_final }
fn next(state: TaskState, event: TaskEvent) -> Option<TaskState> {
    use TaskEvent as E;
    use TaskState as S;
    Some(match (state, event) {
        (S::Do, E::Begin) => S::Doing,
        (S::Do, E::Skip) => S::Hold,
        // Begun twice: killed in the middle, the task is done again from its start.
        (S::Doing, E::Begin) => S::Doing,
        (S::Doing, E::Await) => S::Wait,
        (S::Doing | S::Wait, E::Finish) => S::Done,
        (S::Doing | S::Wait, E::Fail) => S::Undo,
        (S::Done | S::Doing | S::Wait, E::Revert) => S::Undo,
        (S::Undo | S::Undoing, E::BeginUndo) => S::Undoing,
        (S::Undoing, E::FinishUndo) => S::Undone,
        (S::Undoing, E::FailUndo) => S::Error,
        _ => return None,
    })
}
fn is_final(state: TaskState) -> bool {
    matches!(state, TaskState::Hold | TaskState::Undone | TaskState::Error)
}
