package evidence

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// An index file may hold anything: somebody else can write in the folder, or the disk is
// full. What is read of it names files by digests alone, stays within its bounds, and is
// written again as it was read.
func FuzzIndex(f *testing.F) {
	a, b := strings.Repeat("A", 43), strings.Repeat("B", 42)+"A"
	for _, s := range []string{
		"", "1 2\n", "1 2 " + a + "\n", "1 2 " + a + " " + b + "\n3 4 " + b + "\n", "1 2 ../../etc/passwd\n", "x y " + a + "\n",
		strings.Repeat("1 2 "+a+"\n", 20), "1 2" + strings.Repeat(" "+a, 30) + "\n", "9223372036854775807 -9223372036854775808 " + a,
	} {
		f.Add([]byte(s), int64(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		read := parseChains(data)
		if len(read) > maxChains {
			t.Fatalf("%d chains, at most %d", len(read), maxChains)
		}
		for _, l := range read {
			if len(l.names) > maxPresented || slices.ContainsFunc(l.names, func(n string) bool { return !isDigest(n) }) {
				t.Fatalf("%q", l.names)
			}
		}
		names, _ := read.at(time.Unix(at, 0))
		if len(read) == 0 {
			if len(names) != 0 {
				t.Fatalf("a chain out of nothing: %q", names)
			}
			return
		}
		now := time.Unix(1_800_000_000, 0)
		again := parseChains(read.with(read[0].names, now))
		same := func(x, y chainLine) bool {
			return x.first.Equal(y.first) && x.last.Equal(y.last) && slices.Equal(x.names, y.names)
		}
		if want := append(chains{{read[0].first, now, read[0].names}}, read[1:]...); !slices.EqualFunc(again, want, same) {
			t.Fatalf("%v, want %v", again, want)
		}
	})
}
