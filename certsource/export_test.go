package certsource

import "github.com/certbound/certbound/internal/memo"

// Forget makes a source forget what it has decoded.
func Forget(s Source) func() {
	switch s := s.(type) {
	case *presetSource:
		return func() { s.seen = memo.New[decoded](memoBytes) }
	case *RFC9440:
		return func() { s.seen = memo.New[decoded](memoBytes) }
	}
	return func() {}
}
