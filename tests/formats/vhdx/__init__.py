"""Tests of the VHDX format."""
