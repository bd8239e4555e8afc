// What the lab hub takes and returns.
using System;
using System.Collections.Generic;

namespace LabServer
{
    public class Point
    {
        public double X { get; set; }
        public double Y { get; set; }
        public string Label { get; set; }
    }

    public enum Color
    {
        Red = 0,
        Green = 5,
        Blue = 6,
    }

    /// <summary>
    /// The Zoo of lab_hub.py, as far as the JSON serializer of 3.1 goes: it has no TimeSpan that can be read back, no
    /// dictionary whose keys are numbers, and neither DateOnly nor TimeOnly exists yet.
    /// </summary>
    public class Zoo
    {
        public bool Flag { get; set; } = true;
        public byte Small { get; set; } = 200;
        public short Short { get; set; } = -300;
        public int Int { get; set; } = 70000;
        public long Long { get; set; } = 9007199254740993;
        public ulong ULong { get; set; } = ulong.MaxValue;
        public float Float { get; set; } = 1.5f;
        public double Double { get; set; } = 0.1;
        public decimal Decimal { get; set; } = 79.9900m;
        public char Char { get; set; } = '\u0436';
        public string Text { get; set; } = "na\u00efve \u2603 \U0001f600";
        public byte[] Bytes { get; set; } = { 0x00, 0x01, 0xfe, 0xff };
        public Guid Guid { get; set; } = new Guid("0f8fad5b-d9cb-469f-a165-70867728950e");
        public DateTime Utc { get; set; } = new DateTime(2024, 2, 29, 12, 34, 56, 789, DateTimeKind.Utc);
        public DateTime Unspecified { get; set; } = new DateTime(2024, 2, 29, 12, 34, 56);
        public DateTimeOffset Offset { get; set; } =
            new DateTimeOffset(2024, 2, 29, 12, 34, 56, new TimeSpan(5, 30, 0));
        public Color Color { get; set; } = Color.Blue;
        public int? Nothing { get; set; }
        public int[] Numbers { get; set; } = { 1, 2, 3 };
        public List<string> Names { get; set; } = new List<string> { "a", "b" };
        public Dictionary<string, int> Counts { get; set; } = new Dictionary<string, int> { { "One", 1 }, { "two", 2 } };
        public Uri Link { get; set; } = new Uri("https://example.org/a?b=c");
        public Point Inner { get; set; } = new Point { X = 1, Y = -2, Label = "p" };
        public object Anything { get; set; } = new Dictionary<string, object> { { "k", 1 } };
    }
}
