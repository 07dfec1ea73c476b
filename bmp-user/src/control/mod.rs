//! How an operator reaches in: the control socket and what `display` answers.
