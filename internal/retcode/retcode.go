// Package retcode is the list of status codes (generated from the catalogue) and the typed error that carries one.
package retcode

//go:generate go run ./gen

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Code is a status code of the API: 0 or one of the 212 failures.
type Code int

// Entry describes one code of the catalogue.
type Entry struct {
	Code   Code
	Module string // module key of the contract
	Symbol string // name of the constant
	ZH, EN string // message; ZH is the contract's own wording
	When   string // what raises it
}

var byCode = func() map[Code]*Entry {
	m := make(map[Code]*Entry, len(All))
	for i := range All {
		m[All[i].Code] = &All[i]
	}
	return m
}()

// Entry returns the catalogue's entry, or that of ServiceError for a number that is none.
func (c Code) Entry() *Entry {
	if e := byCode[c]; e != nil {
		return e
	}
	return byCode[ServiceError]
}

// Message of a code in "zh" or "en". OK has the empty message, as the envelope wants it.
func (c Code) Message(lang string) string {
	if c == OK {
		return ""
	}
	if lang == English {
		return c.Entry().EN
	}
	return c.Entry().ZH
}

// Internal tells whether a code stands for a failure of our own.
func (c Code) Internal() bool { return c == ServiceError || c == SystemError || c == InternalError }

// Languages of messages.
const (
	Chinese = "zh"
	English = "en"
)

// Error is a failure with its code and a detail that tells the caller what to change.
type Error struct {
	Code   Code
	Format string // English detail, a key of the Chinese details (detail_zh.go)
	Args   []any
	Err    error // cause, for the log only
}

// Errorf makes a failure. Format and args say which parameter or resource, and what is allowed;
// %w is not allowed: use Wrap. A text among args is cut after 256 bytes: what a caller sent goes into answers, logs and
// the audit log, and is theirs to choose.
func (c Code) Errorf(format string, args ...any) *Error {
	short := args
	for i, a := range args {
		var s string
		switch a := a.(type) {
		case string:
			s = a
		case error:
			s = a.Error()
		}
		if len(s) <= maxArg {
			continue
		}
		if &short[0] == &args[0] {
			short = slices.Clone(args)
		}
		short[i] = strings.ToValidUTF8(s[:maxArg], "") + "…"
	}
	return &Error{Code: c, Format: format, Args: short}
}

const maxArg = 256

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

// Message is what the caller reads: the code's message, then the detail, in "zh" or "en".
// The detail of a failure of our own is never answered, since it speaks of our insides.
func (e *Error) Message(lang string) string {
	m := e.Code.Message(lang)
	if e.Code.Internal() || e.Format == "" {
		return m
	}
	if lang == English {
		return m + ": " + e.Detail()
	}
	format, ok := detailZH[e.Format]
	if !ok {
		format = e.Format
	}
	return m + ": " + fmt.Sprintf(format, e.Args...)
}

// Message of any error, as Error.Message; an error without a code reads as ServiceError.
func Message(err error, lang string) string {
	var e *Error
	if err == nil {
		return OK.Message(lang)
	}
	if errors.As(err, &e) {
		return e.Message(lang)
	}
	return ServiceError.Message(lang)
}

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
