package revocation

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"math"
	"time"
)

// Tags of DER (X.690), with the bit for constructed.
const (
	tagBoolean     = 0x01
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagOID         = 0x06
	tagEnumerated  = 0x0a
	tagUTCTime     = 0x17
	tagGeneralized = 0x18
	tagSequence    = 0x30
	tagContext0    = 0xa0
)

// A header is the tag and length of an element.
type header struct {
	tag    byte
	length int64
	size   int64 // octets that the header itself takes
}

// A stream reads DER from a reader, one element after another, and keeps nothing. It
// hashes what it reads while sum is set. The first fault is kept in err, and every
// call after it does nothing.
type stream struct {
	r    *bufio.Reader
	read int64 // octets so far
	max  int64 // no more than that
	sum  hash.Hash
	// keep collects what is read, for algorithms that sign the whole message.
	keep    []byte
	keeping bool
	err     error
}

func (s *stream) fail(fault string) {
	if s.err == nil {
		s.err = &ListError{Fault: fault, Offset: s.read}
	}
}

func (s *stream) failed(err error) {
	switch {
	case s.err != nil:
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		s.fail("truncated")
	default:
		s.err = &ListError{Fault: "could not be read", Offset: s.read, Err: err}
	}
}

// peek returns the next n octets without reading them; n is at most the buffer.
func (s *stream) peek(n int) []byte {
	if s.err != nil {
		return nil
	}
	b, err := s.r.Peek(n)
	if err != nil {
		s.failed(err)
		return nil
	}
	return b
}

// take marks n octets, which were peeked at, as read.
func (s *stream) take(b []byte) {
	s.read += int64(len(b))
	if s.read > s.max {
		s.fail("larger than allowed")
		return
	}
	if s.sum != nil {
		s.sum.Write(b)
	}
	if s.keeping {
		s.keep = append(s.keep, b...)
	}
	s.r.Discard(len(b))
}

// bytes returns the next n octets, which stay valid.
func (s *stream) bytes(n int64) []byte {
	const most = 64 << 10
	if n > most {
		s.fail("an element is longer than 64 KiB")
	}
	if s.err != nil {
		return nil
	}
	b := bytes.Clone(s.peek(int(n)))
	if s.err == nil {
		s.take(b)
	}
	return b
}

// header reads a tag and a length.
func (s *stream) header() header {
	// At least two octets follow every header but the very last; most elements
	// are longer than six.
	b := s.peek(2)
	if s.err != nil {
		return header{}
	}
	n := 2
	if b[1]&0x80 != 0 {
		n += int(b[1] & 0x7f)
		if n == 2 || n > 2+4 {
			s.fail("a length that DER does not have, or that is too large")
			return header{}
		}
		if b = s.peek(n); s.err != nil {
			return header{}
		}
	}
	h, ok := parseHeader(b)
	if !ok {
		s.fail("a tag or length that DER does not have")
		return header{}
	}
	s.take(b[:n])
	return h
}

// parseHeader reads the header at the beginning of b, which has to hold it.
func parseHeader(b []byte) (header, bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return header{}, false
	}
	h := header{tag: b[0], length: int64(b[1]), size: 2}
	if b[1]&0x80 == 0 {
		return h, true
	}
	n := int(b[1] & 0x7f)
	if n == 0 || n > 4 || len(b) < 2+n {
		return header{}, false
	}
	h.length, h.size = 0, int64(2+n)
	for _, o := range b[2 : 2+n] {
		h.length = h.length<<8 | int64(o)
	}
	if h.length < 0x80 || b[2] == 0 || h.length > math.MaxInt32 {
		return header{}, false // not the shortest form
	}
	return h, true
}

// expect reads a header with the tag.
func (s *stream) expect(tag byte, what string) header {
	h := s.header()
	if s.err == nil && h.tag != tag {
		s.fail(what + " expected")
	}
	return h
}

// A cursor reads DER from memory. What it returns lies in the input.
type cursor []byte

// next returns the next element: its tag, its content, and all of it.
func (c *cursor) next() (tag byte, content, whole []byte, ok bool) {
	h, ok := parseHeader(*c)
	if !ok || h.size+h.length > int64(len(*c)) {
		return 0, nil, nil, false
	}
	whole = (*c)[:h.size+h.length]
	*c = (*c)[len(whole):]
	return h.tag, whole[h.size:], whole, true
}

// want is next for an element that must have the tag.
func (c *cursor) want(tag byte) ([]byte, bool) {
	got, content, _, ok := c.next()
	return content, ok && got == tag
}

// is reports whether the next element has the tag.
func (c cursor) is(tag byte) bool { return len(c) > 0 && c[0] == tag }

// boolean reads a BOOLEAN in DER.
func boolean(content []byte) (value, ok bool) {
	if len(content) != 1 || content[0] != 0 && content[0] != 0xff {
		return false, false
	}
	return content[0] != 0, true
}

// minimal reports whether the content of an INTEGER is in its shortest form.
func minimal(content []byte) bool {
	return len(content) > 0 && (len(content) == 1 ||
		!(content[0] == 0 && content[1] < 0x80) && !(content[0] == 0xff && content[1] >= 0x80))
}

// timestamp reads a UTCTime or GeneralizedTime as RFC 5280 has them: in Z, with
// seconds, without fractions. time.Parse would allocate a million times.
func timestamp(tag byte, b []byte) (time.Time, bool) {
	year := 0
	switch {
	case tag == tagUTCTime && len(b) == len("YYMMDDHHMMSSZ"):
		yy, ok := digits(b[:2])
		if !ok {
			return time.Time{}, false
		}
		if year = 1900 + yy; yy < 50 {
			year = 2000 + yy
		}
		b = b[2:]
	case tag == tagGeneralized && len(b) == len("YYYYMMDDHHMMSSZ"):
		hi, ok1 := digits(b[:2])
		lo, ok2 := digits(b[2:4])
		if !ok1 || !ok2 {
			return time.Time{}, false
		}
		year = hi*100 + lo
		b = b[4:]
	default:
		return time.Time{}, false
	}
	var field [5]int // month, day, hour, minute, second
	for i := range field {
		var ok bool
		if field[i], ok = digits(b[2*i : 2*i+2]); !ok {
			return time.Time{}, false
		}
	}
	if b[10] != 'Z' || field[0] < 1 || field[0] > 12 || field[1] < 1 ||
		field[2] > 23 || field[3] > 59 || field[4] > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(field[0]), field[1], field[2], field[3], field[4], 0, time.UTC)
	return t, t.Day() == field[1] // 31 April is in no month
}

func digits(b []byte) (int, bool) {
	if b[0] < '0' || b[0] > '9' || b[1] < '0' || b[1] > '9' {
		return 0, false
	}
	return int(b[0]-'0')*10 + int(b[1]-'0'), true
}

// armor looks whether r holds PEM and returns a reader of the DER.
func armor(r io.Reader) (der *bufio.Reader, end func() error, err error) {
	buf := bufio.NewReaderSize(r, 64<<10)
	const begin = "-----BEGIN X509 CRL-----"
	start, err := buf.Peek(len(begin))
	if err != nil && err != io.EOF { // a bufio.Reader tells an error only once
		return nil, nil, err
	}
	if string(start) != begin {
		return buf, func() error { return nil }, nil
	}
	buf.Discard(len(begin))
	body := &pemBody{r: buf}
	end = func() error {
		rest, err := io.ReadAll(io.LimitReader(buf, 1024))
		if err == nil && (!body.ended || string(bytes.TrimSpace(rest)) != "----END X509 CRL-----") {
			return &ListError{Fault: "one PEM block of type X509 CRL expected, and nothing after it"}
		}
		return err
	}
	return bufio.NewReaderSize(base64.NewDecoder(base64.StdEncoding, body), 64<<10), end, nil
}

// A pemBody ends where the base64 of a PEM block ends, at the first hyphen.
type pemBody struct {
	r     *bufio.Reader
	ended bool
}

func (p *pemBody) Read(out []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	if _, err := p.r.Peek(1); err != nil {
		return 0, err
	}
	b, _ := p.r.Peek(min(p.r.Buffered(), len(out)))
	n := len(b)
	if i := bytes.IndexByte(b, '-'); i >= 0 {
		n = i
	}
	copy(out, b[:n])
	p.r.Discard(n)
	if n < len(b) {
		p.ended = true
		p.r.Discard(1)
	}
	if n == 0 && p.ended {
		return 0, io.EOF
	}
	return n, nil
}
