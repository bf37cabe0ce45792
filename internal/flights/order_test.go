package flights

import "testing"

// A fill that waits is sent although a write has left an entry meanwhile. What it
// shows and may not keep is newer than that entry.
func TestH12_FillThatIsNotKeptLeavesNoOlderEntry(t *testing.T) {
	b := newBench(t)
	w := b.BeginWrite(k, 1, nil)
	f := b.open() // born detached
	next := make(chan *Flight[string, int], 1)
	b.SetStart(func(f *Flight[string, int]) { next <- f })
	waits := b.Fill(k, false, false, nil)
	b.EndWrite(w, true, value(1))
	b.wantLocal(1)
	b.End(f, value(1))
	<-next
	b.End(waits, Reply[int]{Missing: true}) // somebody has deleted it; the message is late
	if r := waits.Wait(background); !r.Missing {
		t.Errorf("the reader got %+v", r)
	}
	b.wantLocal(0)
}

// A fill and a load of a key are under way side by side: what the one that saw
// less brings does not take the place of what the other has shown.
func TestH12_FillAndLoadDoNotStepBack(t *testing.T) {
	for _, name := range []string{"the fill has seen less", "the load has seen less", "the load has seen less, and what the fill saw is not kept"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			var started []*Flight[string, int]
			b.SetStart(func(f *Flight[string, int]) { started = append(started, f) })
			load := b.Load(k, nil)
			fill := b.Fill(k, false, false, nil)
			if len(started) != 2 {
				t.Fatalf("%d flights were sent, want both", len(started))
			}
			switch name {
			case "the fill has seen less":
				b.End(load, value(2))
				b.End(fill, value(1))
				b.wantLocal(2)
			case "the load has seen less":
				b.End(fill, value(2))
				b.End(load, value(1))
				b.wantLocal(2)
			default:
				b.End(fill, Reply[int]{Missing: true})
				b.End(load, value(1))
				b.wantLocal(0)
			}
		})
	}
}

// The value that a load has written back is the newest there is.
func TestLoadKeepsWhatItHasWrittenBack(t *testing.T) {
	b := newBench(t)
	b.SetStart(func(*Flight[string, int]) {})
	load := b.Load(k, nil)
	b.EndWrite(b.BeginWrite(k, 1, load), true, value(1))
	b.End(load, Reply[int]{Value: 1})
	b.wantLocal(1)
}

// A load that is shared is so until this process writes, or a message comes.
func TestLoadIsSharedUntilItIsOvertaken(t *testing.T) {
	for what, overtake := range map[string]func(b *bench){
		"a write":   func(b *bench) { b.EndWrite(b.BeginWrite(k, 0, nil), true, Reply[int]{}) },
		"a message": func(b *bench) { b.Message(k, 7, false) },
	} {
		b := newBench(t)
		b.SetStart(func(*Flight[string, int]) {})
		b.Cut() // loads are born detached
		load := b.Load(k, nil)
		b.Share(load)
		if b.Load(k, nil) != load {
			t.Errorf("%s: it was not shared before", what)
		}
		overtake(b)
		if b.Load(k, nil) == load {
			t.Errorf("%s: it is shared behind it", what)
		}
	}
}
