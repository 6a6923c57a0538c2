//! Requests of a front-end, one at a time, and their answers.

use net_device::log_limited;
use vhost::vhost_user::message::FrontendReq;

use crate::daemon::log_text::chain;
use crate::protocol::connection::{Connection, ConnectionError, Message};
use crate::protocol::session::{Session, SessionError};
use crate::protocol::wire::Answer;

/// Refusals that are logged for one front-end; further ones are only answered.
const LOGGED_REFUSALS: u32 = 8;

/// Reasons to end a conversation before the front-end closes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("request {0} is refused")]
    Refused(u32, #[source] SessionError),
}

/// Takes what is there of a message, and answers it when it is whole.
pub(crate) fn step(
    name: &str,
    connection: &mut Connection,
    session: &mut Session<'_>,
    refusals: &mut u32,
) -> Result<(), Broken> {
    let Some(Message { header, request }) = connection.advance()? else {
        return Ok(());
    };
    let result = session.handle(request);
    if FrontendReq::try_from(header.code) == Ok(FrontendReq::SET_BACKEND_REQ_FD) {
        connection.check()?;
    }
    let wants_answer = header.need_reply && session.answers_refusals();
    match result {
        Ok(Answer::Done) if !wants_answer => Ok(()),
        Ok(answer) => {
            match session.take_reply_fd() {
                Some(fd) => connection.reply_with_fd(header.code, &answer, fd)?,
                None => connection.reply(header.code, &answer)?,
            }
            Ok(())
        }
        Err(error) if !wants_answer && error.is_harmless() => Ok(()),
        Err(error) => {
            let answers = wants_answer || Answer::is_always_sent(header.code);
            let Some(refusal) = Answer::refusal(header.code).filter(|_| answers) else {
                return Err(Broken::Refused(header.code, error));
            };
            *refusals = refusals.saturating_add(1);
            if *refusals <= LOGGED_REFUSALS {
                let code = header.code;
                log_limited!(
                    session.device().log_limit(),
                    Warn,
                    "{name}: request {code} is refused: {}",
                    chain(&error)
                );
            }
            Ok(connection.reply(header.code, &refusal)?)
        }
    }
}
