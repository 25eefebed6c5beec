// Package retcode is the list of status codes (generated from the catalogue) and the typed error that carries one.
package retcode

import (
	"errors"
	"fmt"
)

// Code is a status code of the API: 0 or one of the 212 failures.
type Code int

// Error is a failure with its code and a detail that tells the caller what to change.
type Error struct {
	Code   Code
	Format string // English detail, a key of the Chinese details (detail_zh.go)
	Args   []any
	Err    error // cause, for the log only
}

// Errorf makes a failure. Format and args say which parameter or resource, and what is allowed;
// %w is not allowed: use Wrap.
func (c Code) Errorf(format string, args ...any) *Error {
	return &Error{Code: c, Format: format, Args: args}
}

// Wrap adds the cause, which is logged and never answered.
func (e *Error) Wrap(err error) *Error { e.Err = err; return e }

func (e *Error) Error() string {
	s := fmt.Sprintf("%d: %s", e.Code, e.Detail())
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Detail in English.
func (e *Error) Detail() string { return fmt.Sprintf(e.Format, e.Args...) }

// Of returns the code of err: OK for nil, ServiceError for an error without one.
func Of(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ServiceError
}
