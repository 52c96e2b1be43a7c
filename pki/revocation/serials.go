package revocation

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/big"
	"time"
)

// maxSerial is the longest serial number, in octets of its INTEGER. RFC 5280, Section
// 4.1.2.2, has 20; CAs have made longer ones.
const maxSerial = 64

// An Entry is what a list says of one certificate.
type Entry struct {
	// At is when it was revoked, in whole seconds. The zero time is one outside
	// the years 1970 to 2106.
	At time.Time
	// Reason is the code of RFC 5280, Section 5.3.1. Zero is "unspecified" or
	// none; 8 takes a certificate off the list and stands in delta lists only.
	Reason uint8
}

// extra octets of a record, behind the serial number: seconds and reason.
const extra = 4 + 1

// serials are the entries of a list. Records of one length lie in one sorted table
// without any pointers, so that a million of them cost 20 to 25 MB and the garbage
// collector has nothing to look through.
type serials struct {
	tables [maxSerial + 1]*table
	count  int
}

// A table has the serial numbers of one length.
type table struct {
	width   int // of a serial number
	records []byte
	// index[k] is where the serial numbers begin whose key is k or more. It
	// replaces most steps of a binary search, each a miss of the cache, wherever
	// serial numbers are random or consecutive; elsewhere it does no harm.
	index []uint32
	skip  int    // octets that all have in common
	first uint64 // the least of the eight octets behind them
	shift uint
}

func (t *table) stride() int { return t.width + extra }

func (t *table) len() int { return len(t.records) / t.stride() }

func (t *table) serial(i int) []byte {
	at := i * t.stride()
	return t.records[at : at+t.width]
}

// add files an entry. The serial number is the content of its INTEGER, minimal.
func (s *serials) add(serial []byte, e Entry) {
	t := s.tables[len(serial)]
	if t == nil {
		t = &table{width: len(serial)}
		s.tables[len(serial)] = t
	}
	seconds := e.At.Unix()
	if seconds < 0 || seconds > 1<<32-1 {
		seconds = 0
	}
	t.records = append(t.records, serial...)
	t.records = binary.BigEndian.AppendUint32(t.records, uint32(seconds))
	t.records = append(t.records, e.Reason)
	s.count++
}

// seal sorts the tables. Nothing may be added afterwards. A serial number that stands
// twice stays twice: either entry revokes.
func (s *serials) seal() {
	for _, t := range s.tables {
		if t != nil {
			t.seal()
		}
	}
}

// lookup finds a serial number. It does not allocate.
func (s *serials) lookup(serial []byte) (Entry, bool) {
	if len(serial) > maxSerial || s.tables[len(serial)] == nil {
		return Entry{}, false
	}
	t := s.tables[len(serial)]
	i, ok := t.find(serial)
	if !ok {
		return Entry{}, false
	}
	rest := t.records[i*t.stride()+t.width:]
	e := Entry{Reason: rest[4]}
	if seconds := binary.BigEndian.Uint32(rest); seconds != 0 {
		e.At = time.Unix(int64(seconds), 0).UTC()
	}
	return e, true
}

// octets returns the content of the INTEGER of a serial number. It does not allocate
// if buf is large enough; a longer one is not in any list.
func octets(serial *big.Int, buf *[maxSerial]byte) ([]byte, bool) {
	n := serial.BitLen()/8 + 1
	if serial.Sign() < 0 || n > maxSerial {
		return nil, false
	}
	return serial.FillBytes(buf[:n]), true
}

// perSlot is how many records share a slot of the index, on average: so many that the
// index stays in the cache of the processor, so few that the records lie side by side.
const perSlot = 16

func (t *table) seal() {
	if cap(t.records) > len(t.records)+len(t.records)/16 {
		t.records = bytes.Clone(t.records) // what append has set aside
		t.records = t.records[:len(t.records):len(t.records)]
	}
	t.sort(0, t.len(), 0)
	n := t.len()
	first, last := t.serial(0), t.serial(n-1)
	for t.skip < t.width && first[t.skip] == last[t.skip] {
		t.skip++
	}
	t.first = key(first[t.skip:])
	span := key(last[t.skip:]) - t.first
	slots := uint64(n/perSlot + 1)
	for span>>t.shift >= slots {
		t.shift++
	}
	t.index = make([]uint32, span>>t.shift+2)
	slot := 0
	for i := range n {
		k := int((key(t.serial(i)[t.skip:]) - t.first) >> t.shift)
		for ; slot <= k; slot++ {
			t.index[slot] = uint32(i)
		}
	}
	for ; slot < len(t.index); slot++ {
		t.index[slot] = uint32(n)
	}
}

// key returns the first eight octets of b as a number; zeros stand for missing ones.
func key(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var k uint64
	for i, o := range b {
		k |= uint64(o) << (56 - 8*i)
	}
	return k
}

func (t *table) find(serial []byte) (int, bool) {
	if !bytes.Equal(serial[:t.skip], t.records[:t.skip]) {
		return 0, false
	}
	k := key(serial[t.skip:])
	if k < t.first {
		return 0, false
	}
	slot := (k - t.first) >> t.shift
	if slot >= uint64(len(t.index)-1) {
		return 0, false
	}
	low, high := int(t.index[slot]), int(t.index[slot+1])
	// Where keys are spread evenly, the place in the slot tells the place among its
	// records. Then the search goes on from there in steps that double, which costs
	// little if the guess is good and no more than a binary search if it is bad.
	at := low
	if t.shift >= 8 {
		part := (k - t.first) >> (t.shift - 8) & 0xff
		at += int(part * uint64(high-low) >> 8)
	}
	for step := 1; low < high; step *= 2 {
		order := t.compare(at, k, serial)
		switch {
		case order == 0:
			return at, true
		case order < 0:
			if low = at + 1; at+step >= high {
				return t.search(low, high, k, serial)
			}
			if at += step; t.compare(at, k, serial) > 0 {
				return t.search(low, at, k, serial)
			}
		default:
			if high = at; at-step < low {
				return t.search(low, high, k, serial)
			}
			if at -= step; t.compare(at, k, serial) < 0 {
				return t.search(at+1, high, k, serial)
			}
		}
	}
	return 0, false
}

func (t *table) search(low, high int, k uint64, serial []byte) (int, bool) {
	for low < high {
		middle := int(uint(low+high) >> 1)
		switch order := t.compare(middle, k, serial); {
		case order == 0:
			return middle, true
		case order < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, false
}

// compare compares the record at i with a serial number that has the key k.
func (t *table) compare(i int, k uint64, serial []byte) int {
	at := i * (t.width + extra)
	found := t.records[at : at+t.width]
	if order := cmp.Compare(key(found[t.skip:]), k); order != 0 {
		return order
	}
	return bytes.Compare(found, serial)
}

// sort sorts the records from low to high, which agree in the first depth octets, in
// place: by the next octet (American flag sort), then each group by the octet after
// it. A comparison sort would move 25 octets 20 million times.
func (t *table) sort(low, high, depth int) {
	for ; depth < t.width; depth++ {
		if high-low <= 24 {
			t.insertion(low, high)
			return
		}
		var count [256]int
		stride, records := t.stride(), t.records
		for i := low; i < high; i++ {
			count[records[i*stride+depth]]++
		}
		if count[records[low*stride+depth]] == high-low {
			continue // all the same: no group to divide
		}
		var next, end [256]int
		at := low
		for o, n := range count {
			next[o] = at
			at += n
			end[o] = at
		}
		var spare [maxSerial + extra]byte
		for o := range 256 {
			for next[o] < end[o] {
				record := records[next[o]*stride : (next[o]+1)*stride]
				to := record[depth]
				if int(to) == o {
					next[o]++
					continue
				}
				other := records[next[to]*stride : (next[to]+1)*stride]
				copy(spare[:], other)
				copy(other, record)
				copy(record, spare[:stride])
				next[to]++
			}
		}
		at = low
		for _, n := range count {
			if n > 1 {
				t.sort(at, at+n, depth+1)
			}
			at += n
		}
		return
	}
}

func (t *table) insertion(low, high int) {
	stride := t.stride()
	var spare [maxSerial + extra]byte
	for i := low + 1; i < high; i++ {
		j := i
		for j > low && bytes.Compare(t.serial(i), t.serial(j-1)) < 0 {
			j--
		}
		if j == i {
			continue
		}
		copy(spare[:], t.records[i*stride:(i+1)*stride])
		copy(t.records[(j+1)*stride:(i+1)*stride], t.records[j*stride:i*stride])
		copy(t.records[j*stride:], spare[:stride])
	}
}
