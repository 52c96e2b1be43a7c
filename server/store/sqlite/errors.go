package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// What can be wrong with the file, beside the errors of an [authserver.Store].
var (
	// ErrNotDatabase reports a file that is not an SQLite database.
	ErrNotDatabase = errors.New("not an SQLite database")
	// ErrForeign reports an SQLite database of another program.
	ErrForeign = errors.New("the database belongs to another program")
	// ErrNewerSchema reports a database that a newer version has migrated.
	ErrNewerSchema = errors.New("the schema is newer than this program")
	// ErrReadOnly reports a file or a folder that cannot be written.
	ErrReadOnly = errors.New("cannot be written")
	// ErrFull reports that there is no room left. Nothing was written.
	ErrFull = errors.New("no room left on the disk")
	// ErrLocked reports that another process has held the file for longer than
	// the busy timeout.
	ErrLocked = errors.New("locked by another process")
	// ErrCorrupt reports a damaged file.
	ErrCorrupt = errors.New("the database is damaged")
	// ErrExposed reports a file that everybody on the machine may open.
	ErrExposed = errors.New("other users have rights on the file, and it holds signing keys")
	// ErrUnusable reports any other fault of the file.
	ErrUnusable = errors.New("cannot be used")
)

var errClosed = errors.New("sqlite: the store is closed")

// An Error says what is wrong with a file and what to do about it.
type Error struct {
	Path string
	// Fault is one of the errors of this package.
	Fault error
	// Fix says what was found and what to change.
	Fix string
	// Err is the cause, if there is one.
	Err error
}

func (e *Error) Error() string {
	s := "sqlite: " + e.Path + ": " + e.Fault.Error()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		s += ": " + e.Fix
	}
	return s
}

// Unwrap returns the fault and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Fault}
	}
	return []error{e.Fault, e.Err}
}

// explain turns an error of the driver or of the system into an *Error. An error that
// is one already, and the end of a context, stay as they are.
func explain(path string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e := &Error{Path: path, Err: err}
	switch driver, ok := errors.AsType[*sqlite.Error](err); {
	case ok:
		e.Fix, e.Fault = faultOf(driver.Code())
	case errors.Is(err, sql.ErrConnDone), err.Error() == "sql: database is closed":
		return errClosed
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Fault, e.Fix = ErrReadOnly, fixReadOnly
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Fault, e.Fix = ErrFull, fixFull
	default:
		e.Fault = ErrUnusable
	}
	return e
}

const (
	fixReadOnly = "give the user of this process the right to write the file and its folder"
	fixFull     = "make room; nothing that was acknowledged is lost, and writing goes on by itself"
)

func faultOf(code int) (fix string, fault error) {
	switch code & 0xff { // the rest of the code says more, for the text of the cause
	case lib.SQLITE_NOTADB:
		return "name another file, or move this one away to begin with an empty database", ErrNotDatabase
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return fixReadOnly, ErrReadOnly
	case lib.SQLITE_FULL:
		return fixFull, ErrFull
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return "let the other process end its transaction, or raise the busy timeout", ErrLocked
	case lib.SQLITE_CORRUPT:
		return "put a backup back; see PRAGMA integrity_check for the extent", ErrCorrupt
	case lib.SQLITE_CANTOPEN:
		return "check that the folder is there and that this process may write in it", ErrUnusable
	default:
		return "", ErrUnusable
	}
}
