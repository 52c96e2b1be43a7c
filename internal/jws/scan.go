package jws

import (
	"bytes"
	"encoding/json"
	"unicode"
	"unicode/utf8"
)

// Limits of a JSON text.
const (
	maxDepth   = 32
	maxMembers = 256 // of one object
	// Few names in ASCII are compared each with each, which needs no memory. For others that
	// would take a stranger's token of 16 kB 2 ms, before anybody knows whether it is signed.
	fewMembers = 24
)

// scanObject reads a JSON text (RFC 8259) that must be one object. It returns what is
// wrong with it, or the empty string. visit, if not nil, is called for each member of
// the object with its decoded name and its value as it stands. Names that differ only
// in case are refused at the top level and in the object named fold.
func scanObject(data []byte, fold string, visit func(name, value []byte)) (fault string) {
	var scratch [12]memberName // as many as an access token has
	s := scanner{data: data, names: scratch[:0], fold: fold, visit: visit}
	s.space()
	if s.peek() != '{' {
		return "not a JSON object"
	}
	if s.object(1, true); s.fault != "" {
		return s.fault
	}
	if s.space(); s.pos != len(s.data) {
		return "data after the JSON object"
	}
	return ""
}

type memberName struct {
	text  []byte // decoded
	ascii bool
}

type scanner struct {
	data  []byte
	pos   int
	names []memberName // of the objects that are open, innermost last
	fold  string
	visit func(name, value []byte)
	fault string
}

func (s *scanner) fail(fault string) bool {
	if s.fault == "" {
		s.fault = fault
	}
	return false
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0 // no token begins with it
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) next(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

const notJSON = "not valid JSON"

func (s *scanner) object(depth int, fold bool) bool {
	if depth > maxDepth {
		return s.fail("nested too deep")
	}
	first := len(s.names)
	few := true // and all in ASCII
	s.pos++     // {
	if s.next('}') {
		return true
	}
	for {
		s.space()
		start := s.pos
		escaped, ascii, ok := s.string()
		if !ok {
			return false
		}
		name := memberName{s.data[start+1 : s.pos-1], ascii}
		if escaped {
			text, ok := unquote(s.data[start:s.pos])
			if !ok {
				return s.fail(notJSON)
			}
			name.text, name.ascii = []byte(text), false
		}
		few = few && name.ascii && len(s.names)-first < fewMembers
		if few {
			for _, other := range s.names[first:] {
				if len(other.text) != len(name.text) {
					continue
				}
				if bytes.Equal(other.text, name.text) {
					return s.fail("a member stands twice")
				}
				if fold && bytes.EqualFold(other.text, name.text) {
					return s.fail("two members differ only in case")
				}
			}
		}
		if len(s.names)-first >= maxMembers {
			return s.fail("too many members")
		}
		s.names = append(s.names, name)
		if !s.next(':') {
			return s.fail(notJSON)
		}
		s.space()
		start = s.pos
		if !s.value(depth, depth == 1 && string(name.text) == s.fold) {
			return false
		}
		if depth == 1 && s.visit != nil {
			s.visit(name.text, s.data[start:s.pos])
		}
		if s.next('}') {
			names := s.names[first:]
			s.names = s.names[:first]
			return few || s.distinct(names, fold)
		}
		if !s.next(',') {
			return s.fail(notJSON)
		}
	}
}

// distinct does for all names what object does for few. Those who were told of a member
// that stands twice are told of the fault in the end.
func (s *scanner) distinct(names []memberName, fold bool) bool {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if seen[string(name.text)] {
			return s.fail("a member stands twice")
		}
		seen[string(name.text)] = true
	}
	if !fold {
		return true
	}
	clear(seen)
	for _, name := range names {
		folded := foldName(name.text)
		if seen[folded] {
			return s.fail("two members differ only in case")
		}
		seen[folded] = true
	}
	return true
}

// foldName returns the same text for all names that [bytes.EqualFold] calls equal.
func foldName(name []byte) string {
	return string(bytes.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name))
}

func (s *scanner) array(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested too deep")
	}
	s.pos++ // [
	if s.next(']') {
		return true
	}
	for {
		s.space()
		if !s.value(depth, false) {
			return false
		}
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return s.fail(notJSON)
		}
	}
}

func (s *scanner) value(depth int, fold bool) bool {
	switch c := s.peek(); c {
	case '{':
		return s.object(depth+1, fold)
	case '[':
		return s.array(depth + 1)
	case '"':
		_, _, ok := s.string()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) literal(text string) bool {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(text)) {
		return s.fail(notJSON)
	}
	s.pos += len(text)
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail(notJSON)
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail(notJSON)
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail(notJSON)
		}
	}
	return true
}

// string reads a string with its quotes. Text that is not UTF-8 and half surrogate
// pairs are refused, since decoders replace both and so merge different names.
func (s *scanner) string() (escaped, ascii, ok bool) {
	if s.peek() != '"' {
		return false, false, s.fail(notJSON)
	}
	start := s.pos
	ascii = true
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			if !ascii && !utf8.Valid(s.data[start:s.pos]) {
				return false, false, s.fail("not UTF-8")
			}
			s.pos++
			return escaped, ascii, true
		case c < 0x20:
			return false, false, s.fail(notJSON)
		case c >= 0x80:
			ascii = false
		case c == '\\':
			escaped = true
			if !s.escape() {
				return false, false, s.fail(notJSON) // unless it said more
			}
		}
	}
	return false, false, s.fail(notJSON)
}

// escape reads an escape sequence and leaves pos on its last byte.
func (s *scanner) escape() bool {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		r, ok := s.hex()
		if !ok {
			return false
		}
		if 0xDC00 <= r && r < 0xE000 {
			return s.fail("half a surrogate pair")
		}
		if 0xD800 <= r && r < 0xDC00 {
			if !bytes.HasPrefix(s.data[s.pos+1:], []byte(`\u`)) {
				return s.fail("half a surrogate pair")
			}
			s.pos += 2
			low, ok := s.hex()
			if !ok {
				return false
			}
			if low < 0xDC00 || 0xE000 <= low {
				return s.fail("half a surrogate pair")
			}
		}
		return true
	}
	return false
}

// hex reads four digits after the u at pos and leaves pos on the last.
func (s *scanner) hex() (r uint32, ok bool) {
	for range 4 {
		s.pos++
		c := s.peek()
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | uint32(c)
	}
	return r, true
}

// unquote returns the text of a JSON string that string has read.
func unquote(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}
