package feed

import (
	"encoding/json"
	"reflect"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"iss":"https://as.test","aud":"rs","iat":1,"exp":2,"feed":"f","since":0,"next":7,"more":false,"entries":[{"n":3,"jti":"j","exp":9},{"n":7,"x5t#S256":"t","restored":true}]}`,
		`{"feed":"f","entries":null}`,
		`{"feed":"f","since":3,"next":2}`,
		`{"feed":"f","next":2,"entries":[{"n":2,"jti":"a"},{"n":2,"jti":"b"}]}`,
		`{"feed":"f","next":2,"entries":[{"n":1}]}`,
		`[]`, ``, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, err := Parse(payload)
		if err != nil {
			if p != nil {
				t.Errorf("a page beside the error %v", err)
			}
			return
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%s came back as %s, error %v", payload, out, err)
		}
		last := p.Since
		for _, e := range p.Entries {
			if e.Number <= last || e.Number > p.Next {
				t.Errorf("number %d after %d, next %d", e.Number, last, p.Next)
			}
			last = e.Number
		}
	})
}
