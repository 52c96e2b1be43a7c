package memstore

import (
	"container/list"
	"slices"
)

// A feed numbers the changes of clients. It holds the last change of each of the
// maxChanges ids that changed last; the zero value is empty.
type feed struct {
	last  int64
	floor int64 // changes up to this number may be missing
	order list.List
	byID  map[string]*list.Element
}

type change struct {
	number int64
	id     string
}

// changed notes a change and returns its number.
func (f *feed) changed(id string) int64 {
	f.last++
	if e, ok := f.byID[id]; ok {
		e.Value = change{f.last, id}
		f.order.MoveToBack(e)
		return f.last
	}
	if f.byID == nil {
		f.byID = make(map[string]*list.Element)
	}
	f.byID[id] = f.order.PushBack(change{f.last, id})
	if f.order.Len() > maxChanges {
		oldest := f.order.Remove(f.order.Front()).(change)
		delete(f.byID, oldest.id)
		f.floor = oldest.number
	}
	return f.last
}

// since returns the ids that changed after the given number, in the order of their
// last change. A number from the future, which another store must have given out,
// makes it incomplete.
func (f *feed) since(number int64, limit int) (ids []string, complete bool) {
	if number > f.last || number < f.floor {
		return nil, false
	}
	for e := f.order.Back(); e != nil; e = e.Prev() {
		c := e.Value.(change)
		if c.number <= number {
			break
		}
		if len(ids) >= limit {
			return nil, false
		}
		ids = append(ids, c.id)
	}
	slices.Reverse(ids)
	return ids, true
}
