package redisserver

import "testing"

func TestKilledServerIsRestartedWithWhatItHad(t *testing.T) {
	needServer(t)
	s, err := Start("--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Restart(); err == nil {
		t.Error("one that runs was restarted")
	}
	if _, err := s.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	was := s.Pid()
	s.Kill()
	if s.Running() {
		t.Error("it was killed, and runs")
	}
	if err := s.Restart("--maxclients", "77"); err != nil {
		t.Fatal(err)
	}
	if !s.Running() || s.Pid() == was {
		t.Errorf("restarted as process %d", s.Pid())
	}
	m, err := s.Do("GET", "k")
	if v, _ := m.ToString(); err != nil || v != "v" {
		t.Errorf("it holds %q, %v", v, err)
	}
	m, err = s.Do("CONFIG", "GET", "maxclients")
	if v, _ := m.AsStrMap(); err != nil || v["maxclients"] != "77" {
		t.Errorf("the further arguments had no effect: %v, %v", v, err)
	}
}
