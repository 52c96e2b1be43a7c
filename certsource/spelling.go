package certsource

// maxFieldName bounds the names that can be configured, so that a name of a request can
// be folded without memory of its own.
const maxFieldName = 63

// spellings finds the names that a program on the way could take for ours: CGI and its
// heirs make one variable of HTTP_CLIENT_CERT out of Client-Cert and Client_Cert, and
// nobody minds the case.
type spellings struct {
	canonical map[string]string // by the folded name
	shape     [256]uint64       // first letter, folded → lengths, as bits
}

func newSpellings(names []string) spellings {
	s := spellings{canonical: make(map[string]string, len(names))}
	var buf [maxFieldName]byte
	for _, name := range names {
		if len(name) == 0 || len(name) > maxFieldName {
			continue // refused
		}
		folded := fold(buf[:0], name)
		s.canonical[string(folded)] = name
		s.shape[folded[0]] |= 1 << len(name)
	}
	return s
}

// resemble returns the field of ours that name is, or looks like.
func (s *spellings) resemble(name string) (ours string, ok bool) {
	if len(name) == 0 || len(name) > maxFieldName || s.shape[lower(name[0])]>>len(name)&1 == 0 {
		return "", false
	}
	var buf [maxFieldName]byte
	ours, ok = s.canonical[string(fold(buf[:0], name))]
	return ours, ok
}

func fold(buf []byte, name string) []byte {
	for i := range len(name) {
		buf = append(buf, lower(name[i]))
	}
	return buf
}

func lower(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	}
	return c
}
