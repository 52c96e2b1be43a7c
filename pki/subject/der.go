package subject

// The few universal tags that names are made of.
const (
	tagOID       = 0x06
	tagUTF8      = 0x0C
	tagNumeric   = 0x12
	tagPrintable = 0x13
	tagTeletex   = 0x14
	tagIA5       = 0x16
	tagVisible   = 0x1A
	tagUniversal = 0x1C
	tagBMP       = 0x1E
	tagSequence  = 0x30
	tagSet       = 0x31
)

// readTLV reads one DER element: one octet of tag, a definite length in its shortest
// form. Names have no other, and reading less leaves less to disagree about.
func readTLV(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1F == 0x1F {
		return 0, nil, nil, false
	}
	n, at := int(b[1]), 2
	if n >= 0x80 {
		size := n & 0x7F
		if size < 1 || size > 3 || len(b) < 2+size {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range b[2 : 2+size] {
			n = n<<8 | int(c)
		}
		if n < 0x80 || size > 1 && n>>(8*(size-1)) == 0 {
			return 0, nil, nil, false
		}
		at += size
	}
	if len(b)-at < n {
		return 0, nil, nil, false
	}
	return b[0], b[at : at+n : at+n], b[at+n:], true
}

// isElement reports whether b is one element and, if that is constructed, made of
// elements.
func isElement(b []byte, depth int) bool {
	tag, content, rest, ok := readTLV(b)
	if !ok || len(rest) > 0 || depth == 0 {
		return false
	}
	if tag&0x20 == 0 {
		return true
	}
	for len(content) > 0 {
		_, _, rest, ok := readTLV(content)
		if !ok || !isElement(content[:len(content)-len(rest)], depth-1) {
			return false
		}
		content = rest
	}
	return true
}

func appendTLV[S string | []byte](dst []byte, tag byte, content S) []byte {
	dst = append(dst, tag)
	switch n := len(content); {
	case n < 0x80:
		dst = append(dst, byte(n))
	case n < 0x100:
		dst = append(dst, 0x81, byte(n))
	case n < 0x10000:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, content...)
}
